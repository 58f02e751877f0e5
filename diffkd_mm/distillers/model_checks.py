"""Points are checked against student and teacher before the first step."""

from collections.abc import Callable, Collection, Mapping

from torch import nn

from ..errors import DistillationError
from ..taps import BATCH_SIZE, ProbeError, check_tap, probe
from .guidance import check_guide
from .point import DistillationPoint
from .point_building import naming, stride_size, teacher_not_called
from .point_checks import check_processes, check_queries
from .scaling import Size


def guide_of(point: DistillationPoint, teacher: nn.Module) -> nn.Module | None:
    """The teacher's layer that guides a point, if there is one."""
    path = point.options.guidance
    return teacher.get_submodule(path) if path else None


def named_in(points: Collection[DistillationPoint]) -> set[str]:
    """Paths of the teacher's modules that points tap or are guided by."""
    taps = {point.options.teacher for point in points}
    return taps | {point.options.guidance for point in points if point.options.guidance}


def check_points(
    points: Mapping[str, DistillationPoint],
    student: nn.Module,
    teacher: nn.Module,
    image_size: Callable[[Size], Size],
) -> None:
    """Looks for the teacher's taps and compares both models' levels on blank images.

    Levels that are chosen by strides are found by the way.

    Args:
        points (Mapping): The teacher's points by their names.
        student (nn.Module): The student.
        teacher (nn.Module): The teacher.
        image_size (Callable): The size of its images for that of the student's.

    Raises:
        DistillationError: If a point does not fit; names it.
    """
    for name, point in points.items():
        check_tap(teacher, point.options.teacher, f'point {name!r}, teacher tap')
        if point.options.guidance:
            check_tap(teacher, point.options.guidance, f'point {name!r}, guidance')
        with naming(name):
            check_processes(point, point.options)
            check_queries(teacher, point.options, 'teacher')
    try:
        shapes, size = probe(
            (student, [point.options.student_tap for point in points.values()], True),
            (teacher, [point.options.teacher_tap for point in points.values()], False, image_size),
        )
    except ProbeError as error:
        # A tap that needs annotations: the first training step checks it.
        for name, point in points.items():
            if point.options.strides is not None:
                raise DistillationError(
                    f'point {name!r}: a blank image could not be run through both models to '
                    f'find the strides; use student_levels and teacher_levels. {error}'
                ) from error
        return
    for name, point in points.items():
        with naming(name):
            _check_levels(point, *shapes, stride_size(point.options, size, image_size), teacher)


def _check_levels(
    point: DistillationPoint,
    students: dict,
    teachers: dict,
    size: tuple[int, int],
    teacher: nn.Module,
) -> None:
    """Compares the levels that blank images gave at both taps; strides are those of a size."""
    options = point.options
    student_levels, teacher_levels = students[options.student_tap], teachers[options.teacher_tap]
    if not teacher_levels:
        raise teacher_not_called(teacher, options.teacher_tap)
    if options.strides is not None:
        point.match_strides('teacher', teacher_levels, size)
    if (guide := guide_of(point, teacher)) is not None:
        channels = [x.size(1) for x in point.select(teacher_levels, 'teacher')]
        check_guide(options.guidance, guide, channels)
        if point.connector is None and student_levels:
            given = [x.size(1) for x in point.select(student_levels, 'student')]
            if given != channels:
                raise DistillationError(
                    "guidance compares the student's features with the teacher's, which have "
                    f'{given} and {channels} channels: add a connector, or leave guidance out.'
                )
    if student_levels:  # else called with annotations only, or never
        point.check(
            point.select(student_levels, 'student'),
            point.select(teacher_levels, 'teacher'),
            BATCH_SIZE,
        )
