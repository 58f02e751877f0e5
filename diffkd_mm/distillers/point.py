"""Distillation points: what is compared with what, and how."""

import difflib
import inspect
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DistillationError
from ..registry import MODELS, build_model


def build_part(cfg: dict, where: str) -> nn.Module:
    """Builds a connector or a loss, and names the place in the config if that fails.

    Args:
        cfg (dict): Config with the key ``type``.
        where (str): What to call the place in the message.

    Returns:
        nn.Module: The module.

    Raises:
        DistillationError: If the type or an option is unknown or refused.
    """
    part_class = MODELS.get(cfg['type']) if isinstance(cfg.get('type'), str) else None
    if part_class is not None:
        check_options(cfg, part_class, where)
    try:
        return build_model(cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise DistillationError(f'{where}: {error}') from error


def check_options(cfg: dict, target: type, where: str) -> None:
    """Checks the keys of a config against the parameters of a class.

    Raises:
        DistillationError: Names the unknown option and the nearest existing one.
    """
    parameters = inspect.signature(target.__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in parameters if name not in ('self', 'name')]
    for option in cfg:
        if option not in known and option not in ('type', '_scope_'):
            near = difflib.get_close_matches(option, known, n=1)
            hint = f' Did you mean {near[0]!r}?' if near else ''
            raise DistillationError(
                f'{where}: {target.__name__} has no option {option!r}.{hint} '
                f'Options: {", ".join(known)}.'
            )


class DistillationPoint(nn.Module):
    """A student tap, a teacher tap, a connector between them and a loss.

    Args:
        name (str): The point's name, the prefix of its losses.
        student (str): Path of the tapped student module, e.g. ``'neck'``.
        teacher (str): Path of the tapped teacher module.
        loss (dict): Config of the distillation loss, called as ``loss(refined, target)`` per
            level. Losses of other packages are named with their scope (``mmdet.SmoothL1Loss``).
        connector (dict, optional): Config of the connector. Defaults to None: the student's
            tensors are compared as they are.
        student_levels (Sequence[int], optional): Indices of the student levels. Defaults to all.
        teacher_levels (Sequence[int], optional): Indices of the teacher levels. Defaults to all.
        resize (bool): Resize the student's maps (bilinear) where their size differs from the
            teacher's. Defaults to False, which makes that an error.

    Raises:
        DistillationError: If the config is wrong.
    """

    def __init__(
        self,
        name: str,
        student: str,
        teacher: str,
        loss: dict,
        connector: dict | None = None,
        student_levels: Sequence[int] | None = None,
        teacher_levels: Sequence[int] | None = None,
        resize: bool = False,
    ) -> None:
        super().__init__()
        if not name.isidentifier() or 'loss' in name:
            raise DistillationError(
                f"point {name!r}: a point's name must be an identifier without 'loss' in it, "
                'since MMEngine adds up every logged value whose name contains that word.'
            )
        self.name = name
        self.student = student
        self.teacher = teacher
        self.student_levels = student_levels
        self.teacher_levels = teacher_levels
        self.resize = resize
        self.connector = None
        if connector is not None:
            self.connector = build_part(connector, f'point {name!r}, connector')
        self.loss = build_part(loss, f'point {name!r}, loss')

    def select(self, levels: Sequence, side: str) -> list:
        """Chooses the levels of one side (``'student'`` or ``'teacher'``) by the given indices.

        Raises:
            DistillationError: If an index is out of range.
        """
        indices = getattr(self, f'{side}_levels')
        if indices is None:
            return list(levels)
        if any(not -len(levels) <= i < len(levels) for i in indices):
            raise DistillationError(
                f'{side}_levels={list(indices)} asks for levels that the {side} tap '
                f'{getattr(self, side)!r} does not have: it gives {len(levels)}.'
            )
        return [levels[i] for i in indices]

    def check(self, students: Sequence, teachers: Sequence) -> None:
        """Checks number, size and channels of the chosen levels.

        Args:
            students (Sequence[Tensor]): The student's levels.
            teachers (Sequence[Tensor]): The teacher's levels.

        Raises:
            DistillationError: Says what was found, what was expected and what to change.
        """
        if len(students) != len(teachers):
            raise DistillationError(
                f'the student tap {self.student!r} gives {len(students)} levels, the teacher tap '
                f'{self.teacher!r} {len(teachers)}. Choose matching ones with student_levels and '
                'teacher_levels.'
            )
        for i, (student, teacher) in enumerate(zip(students, teachers)):
            if student.dim() != teacher.dim() or len(student) != len(teacher):
                raise DistillationError(
                    f'level {i} has shape {tuple(student.shape)} in the student and '
                    f'{tuple(teacher.shape)} in the teacher: the taps do not output the same kind '
                    'of thing, or not for the same samples.'
                )
            if student.shape[2:] != teacher.shape[2:] and not self.resize:
                raise DistillationError(
                    f'level {i} has size {tuple(student.shape[2:])} in the student and '
                    f'{tuple(teacher.shape[2:])} in the teacher. Choose levels of the same stride '
                    'with student_levels and teacher_levels, or set resize=True.'
                )
            if self.connector is None and student.shape[1] != teacher.shape[1]:
                raise DistillationError(
                    f'level {i} has {student.shape[1]} channels in the student and '
                    f'{teacher.shape[1]} in the teacher. Add a connector, e.g. '
                    f"dict(type='ConvConnector', student_channels={student.shape[1]}, "
                    f'teacher_channels={teacher.shape[1]}).'
                )
        if self.connector is not None:
            self.connector.check_levels(students, teachers)

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compares the levels of both taps.

        Args:
            students (Sequence[Tensor]): The tensors of the student tap.
            teachers (Sequence[Tensor]): The tensors of the teacher tap.

        Returns:
            dict[str, Tensor]: ``loss_kd``, summed over the levels, and what the connector adds.

        Raises:
            DistillationError: If the levels do not fit.
        """
        refined, targets, losses = self.refine(students, teachers)
        loss_kd = sum(self.loss(x, y) for x, y in zip(refined, targets))
        return {'loss_kd': loss_kd, **losses}

    def refine(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Refined student tensors, targets and the connector's losses, level by level."""
        students, teachers = self.select(students, 'student'), self.select(teachers, 'teacher')
        self.check(students, teachers)
        if self.resize:
            students = [
                x
                if x.shape[2:] == y.shape[2:]
                else F.interpolate(x, y.shape[2:], mode='bilinear', align_corners=False)
                for x, y in zip(students, teachers)
            ]
        if self.connector is None:
            return students, teachers, {}
        return self.connector(students, teachers)
