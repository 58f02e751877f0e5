"""What a distillation point refuses to compare, each with what was found and what to change."""

import math
from collections.abc import Sequence

from mmengine.dist import get_world_size
from torch import Tensor, nn

from ..diffusion import Standardization
from ..errors import DistillationError
from ..reparam import Branches
from ..taps import outputs_queries
from .point_options import PointOptions


def is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def check_indices(
    levels: Sequence[Tensor], indices: Sequence[int], options: PointOptions, side: str
) -> None:
    """The levels that are chosen by index exist."""
    if any(not -len(levels) <= i < len(levels) for i in indices):
        raise DistillationError(
            f'{side}_levels={list(indices)} asks for levels that the {side} tap '
            f'{getattr(options, side)!r} does not have: it gives {len(levels)}.'
        )


def check_tokens(levels: Sequence[Tensor], options: PointOptions, side: str) -> None:
    """Tokens (B, N, C) that are to be resized are those of a square map."""
    if options.resize and any(x.dim() == 3 and not is_square(x.size(1)) for x in levels):
        raise DistillationError(
            f'the {side} tap {getattr(options, side)!r} outputs {levels[0].size(1)} tokens, which '
            'are no square map and cannot be resized. Is one a class token? Leave it out by '
            'drop_tokens=1, or tap a module that outputs a map.'
        )


def check_queries(model: nn.Module, options: PointOptions, side: str) -> None:
    """Queries are compared only by one who says that those of both models correspond."""
    path = getattr(options, side)
    if not (options.queries or options.regions) and outputs_queries(model, path):
        raise DistillationError(
            f'the {side} tap {path!r} of {type(model).__name__} outputs something per query, and '
            "the student's query i does not look for what the teacher's query i does. Tap what "
            'comes before the queries, such as the neck, the encoder or the pixel decoder; if they '
            "correspond, as where the student inherits the teacher's, say queries='index'."
        )


def check_batch(
    levels: Sequence[Tensor], options: PointOptions, side: str, batch_size: int
) -> None:
    """The first dimension of what a tap outputs is the batch, unless it is of regions."""
    for level in levels:
        if options.regions is None and (level.dim() == 0 or level.size(0) != batch_size):
            raise DistillationError(
                f'the {side} tap {getattr(options, side)!r} outputs a tensor of shape '
                f'{tuple(level.shape)} for {batch_size} images: its first dimension is not the '
                'batch, and those of student and teacher are not the same samples. Taps in RoI '
                'heads need regions=, the path of the RoI extractor; of a decoder that stacks the '
                'outputs of its layers, and of a block that cuts images into windows, tap a layer, '
                'or the block around.'
            )


def check_stride(
    found: int, stride: int, sizes: Sequence, image_size: int, options: PointOptions, side: str
) -> None:
    """A tap has one level of a stride, neither none nor several."""
    if found != 1:
        strides = ', '.join(
            str(round(image_size / max(s))) if len(s) == 2 else 'none' for s in sizes
        )
        raise DistillationError(
            f'strides={list(options.strides)} asks for one level of stride {stride}, and the '
            f'{side} tap {getattr(options, side)!r} has {found}: its levels have strides '
            f'{strides}. Choose by student_levels and teacher_levels instead.'
        )


def check_is_number(value: Tensor, loss: nn.Module) -> None:
    """A loss has been reduced to one number."""
    if value.numel() != 1:
        raise DistillationError(
            f'{type(loss).__name__} gives a tensor of shape {tuple(value.shape)} and '
            "not a number. Has it a reduction? Set it to 'mean'."
        )


def check_levels(
    students: Sequence[Tensor],
    teachers: Sequence[Tensor],
    options: PointOptions,
    connector: nn.Module | None,
    loss: nn.Module,
) -> None:
    """Number, kind, size and channels of the chosen levels fit each other, connector and loss.

    Args:
        students (Sequence[Tensor]): The student's levels.
        teachers (Sequence[Tensor]): The teacher's levels.
        options (PointOptions): The point's options.
        connector (nn.Module, optional): Its connector.
        loss (nn.Module): Its loss.

    Raises:
        DistillationError: Says what was found, what was expected and what to change.
    """
    if len(students) != len(teachers):
        raise DistillationError(
            f'the student tap {options.student!r} gives {len(students)} levels, the teacher tap '
            f'{options.teacher!r} {len(teachers)}. Choose matching ones by strides, or by '
            'student_levels and teacher_levels, such as student_levels=[0] where the student '
            'calls the module several times in a step.'
        )
    dims = getattr(loss, 'dims', None) or (connector and (2, 4))
    for i, (student, teacher) in enumerate(zip(students, teachers)):
        _check_kind(i, student, teacher, dims, options, loss)
        if student.shape[2:] != teacher.shape[2:] and not options.resize:
            raise DistillationError(
                f'level {i} has size {tuple(student.shape[2:])} in the student and '
                f'{tuple(teacher.shape[2:])} in the teacher. Choose levels by strides, or by '
                'student_levels and teacher_levels, or set resize=True.'
            )
        _check_aspect(i, student.shape[2:], teacher.shape[2:])
        if connector is None:
            _check_loss_channels(i, student, teacher, loss)
    if connector is not None:
        connector.check_levels(students, teachers)


def check_processes(point: nn.Module, options: PointOptions) -> None:
    """No processes wait for each other in a point on regions, of which one may sample none."""
    if options.regions is None or get_world_size() == 1:
        return
    for kind, option in ((Standardization, 'standardize'), (nn.SyncBatchNorm, 'SyncBN')):
        if any(isinstance(module, kind) for module in point.modules()):
            raise DistillationError(
                f'{option} makes processes wait for each other, and one that samples no region in '
                f'a step would never come: with regions and several processes, leave {option} out.'
            )


def _check_kind(
    i: int,
    student: Tensor,
    teacher: Tensor,
    dims: tuple[int, ...] | None,
    options: PointOptions,
    loss: nn.Module,
) -> None:
    """Both sides are tensors of the same kind, one that the loss takes, of the same samples."""
    found = (
        f'level {i} has shape {tuple(student.shape)} in the student and '
        f'{tuple(teacher.shape)} in the teacher'
    )
    taken = not dims or student.dim() in dims
    tokens = [side for side, x in (('student', student), ('teacher', teacher)) if x.dim() == 3]
    if tokens and not (taken and student.shape == teacher.shape):
        side = tokens[0] if len(tokens) == 1 and options.channels_last is None else 'both'
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
        raise DistillationError(f'{found}, and {type(loss).__name__} compares {kinds}.')


def _check_aspect(i: int, student: Sequence[int], teacher: Sequence[int]) -> None:
    """Maps that are resized can be of the same image: tokens are laid out as squares."""
    sides = list(zip(student, teacher))  # each rounded to a cell
    least = max(((x - 1) / (y + 1) for x, y in sides), default=0)
    most = min(((x + 1) / (y - 1) for x, y in sides if y > 1), default=math.inf)
    if least > 1.5 * most:  # a teacher's scale changes the shape of small images
        raise DistillationError(
            f'level {i} has size {tuple(student)} in the student and {tuple(teacher)} in the '
            'teacher, which are no maps of the same image. Tokens (B, N, C) are taken for a square '
            'map if N is a square: for oblong images tap a module that outputs a map.'
        )


def _check_loss_channels(i: int, student: Tensor, teacher: Tensor, loss: nn.Module) -> None:
    """Both sides have as many channels, or as many as a loss that names them expects."""
    if hasattr(loss, 'student_channels'):
        expected = loss.student_channels, loss.teacher_channels
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


def check_branches(student: nn.Module, options: PointOptions) -> None:
    """A chain's student tap is a layer in branches."""
    if options.chain is not None and not isinstance(
        student.get_submodule(options.student), Branches
    ):
        raise DistillationError(
            f'a chain needs a student tap in branches, and {options.student!r} is none. Add it to '
            f'the distiller: branches=dict(layers=[{options.student!r}]).'
        )
