"""What can be known to go wrong before anything is trained."""

from mmengine.config import Config
from mmengine.registry import METRICS, init_default_scope

from diffkd_mm.errors import DistillationError

from .runs import Arm

PACKAGES = ('mmdet', 'mmseg', 'mmpretrain', 'diffkd_mm')


def check_plan(arms: list[Arm], metric: str, split: str, tuned: bool) -> None:
    """Checks that the configs evaluate the metric, and on the split of the report.

    Args:
        arms (list[Arm]): All arms.
        metric (str): Name of the metric.
        split (str): ``'val'`` or ``'test'``.
        tuned (bool): Whether a value of the grid is picked on the validation split.

    Raises:
        DistillationError: If a config does not.
    """
    for cfg, name in {arm.config: (arm.cfg, arm.config.stem) for arm in arms}.values():
        splits = ('val', 'test') if split == 'test' else ('val',)
        for which in splits:
            check_evaluator(cfg, f'{which}_evaluator', metric, name)
        if split == 'test' and not cfg.get('test_dataloader'):
            raise DistillationError(f'--report-split test: {name} has no test_dataloader.')
        if split == 'test' and cfg.get('test_dataloader') == cfg.get('val_dataloader'):
            chosen = ', on which the value of the grid is picked' if tuned else ''
            print(f'Note: the test split of {name} is its validation split{chosen}.', flush=True)


def check_evaluator(cfg: Config, key: str, metric: str, name: str) -> None:
    """Checks by their prefixes that an evaluator's metrics may include a name.

    Exact names are known after the first validation only. Metrics without a prefix, of other
    packages, may be called anything.

    Raises:
        DistillationError: If they do not include it.
    """
    evaluators = cfg.get(key) or []
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    metrics = [x for e in evaluators for x in ([e] if 'metrics' not in e else e['metrics'])]
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    prefixes = {}
    for x in metrics:
        with METRICS.switch_scope_and_registry(None) as registry:
            cls = registry.get(x['type']) if isinstance(x['type'], str) else x['type']
        if cls is None:
            return
        prefix = x.get('prefix') or getattr(cls, 'default_prefix', None) or ''
        if not prefix and cls.__module__.split('.')[0] not in PACKAGES:
            return
        prefixes[cls.__name__] = f'{prefix}/' if prefix else ''
    wanted = metric[: metric.rfind('/') + 1]
    if prefixes and wanted not in prefixes.values():
        found = ' and '.join(f'{cls} ({p}…)' if p else cls for cls, p in prefixes.items())
        raise DistillationError(
            f'--metric {metric}: {key} of {name} is {found}, which logs no such metric.'
        )
