"""Child registries of MMEngine's, scope ``diffkd_mm``."""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

SCOPE = 'diffkd_mm'

MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=['diffkd_mm'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope=SCOPE, locations=['diffkd_mm'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['diffkd_mm'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope=SCOPE, locations=['diffkd_mm'])


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
