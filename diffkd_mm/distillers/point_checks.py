"""What the chosen levels of a point must be to be compared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmengine.dist import get_world_size
from torch import Tensor, nn

from ..diffusion import Standardization
from ..errors import DistillationError

if TYPE_CHECKING:
    from .point import DistillationPoint


def check_levels(point: 'DistillationPoint', students: Sequence, teachers: Sequence) -> None:
    """Checks number, size and channels of the chosen levels.

    Args:
        point (DistillationPoint): The point.
        students (Sequence[Tensor]): The student's levels.
        teachers (Sequence[Tensor]): The teacher's levels.

    Raises:
        DistillationError: Says what was found, what was expected and what to change.
    """
    if len(students) != len(teachers):
        raise DistillationError(
            f'the student tap {point.student!r} gives {len(students)} levels, the teacher tap '
            f'{point.teacher!r} {len(teachers)}. Choose matching ones by strides, or by '
            'student_levels and teacher_levels, such as student_levels=[0] where the student '
            'calls the module several times in a step.'
        )
    for i, (student, teacher) in enumerate(zip(students, teachers)):
        _check_kind(point, i, student, teacher)
        if student.shape[2:] != teacher.shape[2:] and not point.resize:
            raise DistillationError(
                f'level {i} has size {tuple(student.shape[2:])} in the student and '
                f'{tuple(teacher.shape[2:])} in the teacher. Choose levels by strides, or by '
                'student_levels and teacher_levels, or set resize=True.'
            )
        if point.connector is None:
            _check_loss_channels(point, i, student, teacher)
    if point.connector is not None:
        point.connector.check_levels(students, teachers)


def check_processes(point: 'DistillationPoint') -> None:
    """Refuses modules by which processes wait for each other in a point that not all may reach.

    Raises:
        DistillationError: If the point is on regions, of which a process may sample none.
    """
    if point.regions is None or get_world_size() == 1:
        return
    for kind, option in ((Standardization, 'standardize'), (nn.SyncBatchNorm, 'SyncBN')):
        if any(isinstance(module, kind) for module in point.modules()):
            raise DistillationError(
                f'{option} makes processes wait for each other, and one that samples no region in '
                f'a step would never come: with regions and several processes, leave {option} out.'
            )


def _check_kind(point: 'DistillationPoint', i: int, student: Tensor, teacher: Tensor) -> None:
    """Both sides are tensors of the same kind, one that the loss takes, of the same samples."""
    found = (
        f'level {i} has shape {tuple(student.shape)} in the student and '
        f'{tuple(teacher.shape)} in the teacher'
    )
    dims = getattr(point.loss, 'dims', None) or (point.connector and (2, 4))
    taken = not dims or student.dim() in dims
    tokens = [side for side, x in (('student', student), ('teacher', teacher)) if x.dim() == 3]
    if tokens and not (taken and student.shape == teacher.shape):
        side = tokens[0] if len(tokens) == 1 and point.channels_last is None else 'both'
        raise DistillationError(
            f'{found}: are these tokens (B, N, C)? They are compared as maps: set '
            f"the point's channels_last={side!r}."
        )
    if student.dim() != teacher.dim():
        raise DistillationError(
            f'{found}: maps (B, C, H, W) are compared with maps, vectors (B, C) with vectors.'
        )
    if len(student) != len(teacher):
        raise DistillationError(
            f'{found}, not the same samples. Taps in RoI heads need regions=, the path of the '
            'RoI extractor.'
        )
    if not taken:
        kinds = ' or '.join({2: 'vectors (B, C)', 4: 'maps (B, C, H, W)'}[x] for x in dims)
        raise DistillationError(f'{found}, and {type(point.loss).__name__} compares {kinds}.')


def _check_loss_channels(
    point: 'DistillationPoint', i: int, student: Tensor, teacher: Tensor
) -> None:
    """Both sides have as many channels, or as many as a loss that names them expects."""
    if hasattr(point.loss, 'student_channels'):
        expected = point.loss.student_channels, point.loss.teacher_channels
        if (student.shape[1], teacher.shape[1]) != expected:
            raise DistillationError(
                f'level {i} has {student.shape[1]} channels in the student and '
                f'{teacher.shape[1]} in the teacher, but the loss has '
                f'student_channels={expected[0]} and teacher_channels={expected[1]}.'
            )
    elif student.shape[1] != teacher.shape[1]:
        raise DistillationError(
            f'level {i} has {student.shape[1]} channels in the student and '
            f'{teacher.shape[1]} in the teacher. Add a connector, e.g. '
            f"dict(type='ConvConnector', student_channels={student.shape[1]}, "
            f'teacher_channels={teacher.shape[1]}).'
        )
