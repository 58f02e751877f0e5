"""Child registries of MMEngine's, scope ``diffkd_mm``."""

from collections.abc import Sequence
from importlib import import_module

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import Registry

SCOPE = 'diffkd_mm'


class LateRegistry(Registry):
    """Imports what needs MMDetection, MMSegmentation or MMPretrain when it is asked for.

    So each of the three is needed only by those who use its models.

    Args:
        late (Sequence[str]): Modules of this package that are imported late.
    """

    def __init__(self, *args, late: Sequence[str], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.late = late

    def get(self, key: str) -> type | None:
        known = {**self.module_dict, **self.parent.module_dict}
        if '.' not in key and key not in known:
            for module in self.late:
                try:
                    import_module(f'{SCOPE}.{module}')
                except (ImportError, AssertionError):
                    # Its package is missing, or not made for the installed MMCV. A config that
                    # needs the package shows the reason when it inherits from it.
                    pass
        return super().get(key)


MODELS = LateRegistry(
    'model',
    parent=MMENGINE_MODELS,
    scope=SCOPE,
    locations=['diffkd_mm'],
    late=['models.segmentation', 'models.classification'],
)
DATASETS = LateRegistry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope=SCOPE,
    locations=['diffkd_mm'],
    late=['datasets.digits'],
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['diffkd_mm'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope=SCOPE, locations=['diffkd_mm'])
OPTIMIZERS = Registry('optimizer', parent=MMENGINE_OPTIMIZERS, scope=SCOPE, locations=['diffkd_mm'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope=SCOPE, locations=['diffkd_mm']
)
PARAM_SCHEDULERS = Registry(
    'parameter scheduler', parent=MMENGINE_PARAM_SCHEDULERS, scope=SCOPE, locations=['diffkd_mm']
)


def build_model(cfg: dict):
    """Builds a module of this project, or of another package if ``cfg['type']`` names its scope.

    The current default scope (``mmdet``, ``mmseg``, ...) would otherwise come first: a bare
    ``MSELoss`` here means ours, ``mmdet.MSELoss`` means MMDetection's.

    Args:
        cfg (dict): Config with the key ``type``.

    Returns:
        nn.Module: The module.

    Raises:
        KeyError: If the type is not registered.
        TypeError: If an option is unknown.
    """
    return MODELS.build({'_scope_': SCOPE, **cfg})
