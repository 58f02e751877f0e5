"""DiffKD knowledge distillation for OpenMMLab: registered connectors, losses and a distiller.

``import diffkd_mm`` registers everything (the networks of :mod:`diffkd_mm.models`, and what needs
MMDetection, when it is asked for), so a config needs nothing but
``custom_imports = dict(imports=['diffkd_mm'])``.
"""

__version__ = '0.1.0'

from . import versions  # noqa: F401  first: what is too old may not even be imported

# isort: split
from . import compat  # noqa: F401  next: config inheritance must work before anything is parsed

# isort: split
from . import (
    chains,
    connectors,
    datasets,
    diffusion,
    distillers,
    evaluation,
    hooks,
    losses,
    optim,
)

__all__ = [
    'chains',
    'connectors',
    'datasets',
    'diffusion',
    'distillers',
    'evaluation',
    'hooks',
    'losses',
    'optim',
    '__version__',
]
