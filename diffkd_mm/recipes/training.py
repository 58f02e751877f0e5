"""What a method changes in the student's schedule: clipping, warm-up, seeds."""

from collections.abc import Mapping
from typing import NamedTuple

from .methods import DIFFKDS_LAYERS
from .survey import Survey


class Setting(NamedTuple):
    """A line of the config.

    Args:
        code (str): The assignment.
        why (str): Its reason.
    """

    code: str
    why: str


def settings(method: str, student: Survey, points: Mapping) -> list[Setting]:
    """The lines that a recipe adds to the student's config."""
    found = []
    kinds = {(point.config.get('connector') or {}).get('type') for point in points.values()}
    if 'DiffKDConnector' in kinds:
        given = student.cfg.get('randomness') or {}
        seed = '' if 'seed' in given else 'seed=None, '
        found.append(
            Setting(
                f'randomness = dict({seed}diff_rank_seed=True)',
                'every GPU draws timesteps and noise of its own',
            )
        )
    if student.task == 'detection' and (kinds & set(DIFFKDS_LAYERS) or method == 'fgd'):
        found += _of_detectors(method, student)
    return found


def _of_detectors(method: str, student: Survey) -> list[Setting]:
    """Clipping of one-stage detectors (FGD: all), a longer warm-up of RetinaNets."""
    found = []
    one_stage = not hasattr(student.model, 'roi_head')
    retinanet = type(student.model).__name__ == 'RetinaNet' and method != 'fgd'
    wrapper = student.cfg.get('optim_wrapper')
    if wrapper is not None and not wrapper.get('clip_grad') and (one_stage or method == 'fgd'):
        source = "MasKD's code does for RetinaNet and FCOS"
        if method == 'fgd':
            source = "FGD's authors do"
        found.append(
            Setting(
                'optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))',
                f'gradients are clipped at norm 35, as {source}',
            )
        )
    schedule = student.cfg.get('param_scheduler')
    if retinanet and isinstance(schedule, list) and schedule and _is_short_warm_up(schedule[0]):
        found.append(
            Setting(
                'param_scheduler = [\n'
                '    dict(_base_.param_scheduler[0], end=1000),\n'
                '    *_base_.param_scheduler[1:],\n'
                ']',
                "the warm-up takes 1000 iterations, as in MasKD's code for RetinaNet",
            )
        )
    return found


def _is_short_warm_up(scheduler: Mapping) -> bool:
    kind = scheduler.get('type')
    by_iteration = not scheduler.get('by_epoch', True)
    return kind == 'LinearLR' and by_iteration and scheduler.get('end', 1000) < 1000
