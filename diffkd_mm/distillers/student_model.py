"""Building the student that a distiller trains."""

import logging

from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import nn

from ..errors import DistillationError
from ..options import check_options
from ..reparam import Surgery


def build_student(
    student: dict, data_preprocessor: dict | None = None, branches: dict | None = None
) -> nn.Module:
    """Builds the student of a distiller.

    Args:
        student (dict): Its config.
        data_preprocessor (dict, optional): That beside the model, for students without their own.
        branches (dict, optional): Options of :class:`~diffkd_mm.reparam.Surgery`.

    Returns:
        nn.Module: The student, its layers in branches if there are any.

    Raises:
        DistillationError: If the student is semi-supervised or the branches do not fit it.
    """
    model = MODELS.build(with_preprocessor(student, data_preprocessor))
    refuse_semi_supervised(model, 'student')
    if branches is not None:
        if not isinstance(branches, dict) or not branches.get('layers'):
            raise DistillationError(
                f'branches={branches!r}: it needs layers, the paths of layers of the student.'
            )
        check_options(branches, Surgery, 'branches')
        Surgery(**branches).apply(model)
    return model


def with_preprocessor(student: dict, data_preprocessor: dict | None) -> dict:
    """A student's config with the data preprocessor of its own or, without one, that beside it.

    Args:
        student (dict): The student's config.
        data_preprocessor (dict, optional): The one beside it.
    """
    own = student.get('data_preprocessor')
    if data_preprocessor is None:
        return dict(student)
    if own is not None and _unscoped(own) != _unscoped(data_preprocessor):
        print_log(
            'The data_preprocessor beside the model is not used: the student has one of its own, '
            'which differs.',
            logger='current',
            level=logging.WARNING,
        )
    return {'data_preprocessor': data_preprocessor, **student}


def _unscoped(cfg: dict) -> dict:
    """A config without the scope that MMEngine notes in one it inherits from a package."""
    return {key: value for key, value in cfg.items() if key != '_scope_'}


def is_semi_supervised(model: nn.Module) -> bool:
    """Whether a model holds a student and a teacher of its own."""
    return {'student', 'teacher'} <= {name for name, _ in model.named_children()}


def refuse_semi_supervised(model: nn.Module, side: str) -> None:
    """A student or teacher is no model that holds a student and a teacher of its own.

    Raises:
        DistillationError: Says what to give instead.
    """
    if is_semi_supervised(model):
        kind = type(model).__name__
        advice = {
            'student': f"Put the distiller inside: {kind} with detector=dict(type='diffkd_mm."
            "Distiller', ...).",
            'teacher': 'Give the config of its detector, and the weights of one of the two under '
            "the detector's names.",
        }
        raise DistillationError(
            f'the {side} is a {kind}, which holds a student and a teacher of its own. '
            f'{advice[side]}'
        )
