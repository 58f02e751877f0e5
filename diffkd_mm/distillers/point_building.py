"""Building points: what their options leave open is found by looking at student and teacher."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from ..errors import DistillationError
from ..taps import ProbeError, Tap, check_tap, not_called, probe
from .levels import LevelChoice
from .point import DistillationPoint
from .point_checks import check_branches, check_queries
from .point_options import PointOptions
from .scaling import Size


@contextmanager
def naming(point: str) -> Iterator[None]:
    """Puts a point's name before the message of an error in its levels."""
    try:
        yield
    except DistillationError as error:
        raise DistillationError(f'point {point!r}: {error}') from error


@dataclass(frozen=True)
class PlannedPoint:
    """A point as far as its config and the student say it.

    Args:
        options (PointOptions): Its options.
        choice (LevelChoice): Which levels are compared.
        students (list[Tensor], optional): The student's chosen levels for blank images, on the
            device ``meta``; None where nothing asked for them.
    """

    options: PointOptions
    choice: LevelChoice
    students: list[Tensor] | None

    def build(self, teachers: list[Tensor] | None = None) -> DistillationPoint:
        """The point; ``teachers`` are the teacher's chosen levels, if they are asked for.

        Raises:
            DistillationError: If connector or loss cannot be built.
        """
        return DistillationPoint(self.options.complete(self.students, teachers), self.choice)


def teacher_not_called(teacher: nn.Module, tap: Tap) -> DistillationError:
    """The error for a tap that the teacher does not call; says so if it does in training."""
    error = not_called('teacher', tap.path)
    try:
        (found,), _ = probe((teacher, [tap], True))
    except ProbeError:
        return error
    if found[tap]:
        return DistillationError(
            f'the teacher tap {tap.path!r} is called in training mode only, and the teacher is in '
            'evaluation mode; tap a module that is called in both.'
        )
    return error


def plan_points(student: nn.Module, configs: Mapping[str, Mapping]) -> dict[str, PlannedPoint]:
    """Reads the configs of points and finds what the student says of them.

    Args:
        student (nn.Module): The student.
        configs (Mapping): Options of a point by the point's name.

    Raises:
        DistillationError: If a config is wrong, or the student cannot be run on a blank image to
            find what it leaves open.
    """
    if not isinstance(configs, Mapping):
        raise DistillationError('points must be a dict of points by their names.')
    every = {name: PointOptions.from_config(name, cfg) for name, cfg in configs.items()}
    for name, options in every.items():
        check_tap(student, options.student, f'point {name!r}, student tap')
        if options.regions is not None:
            check_tap(student, options.regions, f'point {name!r}, regions')
        with naming(name):
            check_queries(student, options, 'student')
            check_branches(student, options)
    asking = [options for options in every.values() if options.asks_student]
    found, size, cause = {}, None, None
    if asking:
        try:
            (found,), size = probe((student, [options.student_tap for options in asking], True))
        except ProbeError as error:
            cause = error
    plans = {}
    for name, options in every.items():
        choice, levels = LevelChoice(options), None
        with naming(name):
            if options in asking:
                levels = _student_levels(options, found, cause)
            if levels is not None:
                if options.strides is not None:
                    choice.match_strides('student', levels, size)
                levels = choice.select(levels, 'student')
        plans[name] = PlannedPoint(options, choice, levels)
    return plans


def _student_levels(
    options: PointOptions, found: dict, cause: ProbeError | None
) -> list[Tensor] | None:
    """The levels of the student's tap; None if there are none, and the point can do without."""
    levels = found.get(options.student_tap)
    if levels or not options.needs_student:
        return levels or None
    needed = (
        f'to find {", ".join(options.needs_student)}; set '
        f'{"these" if len(options.needs_student) > 1 else "this"} in connector and loss, and '
        'choose levels by student_levels and teacher_levels'
    )
    if cause is not None:
        raise DistillationError(
            f'the student could not be run on a blank image {needed}. It failed with {cause}'
        ) from cause
    raise DistillationError(
        f'{not_called("student", options.student)} It was run on a blank image {needed} if the '
        'tap is called with annotations only.'
    )


def stride_size(options: PointOptions, size: Size, image_size: Callable[[Size], Size]) -> Size:
    """The image that the strides of a teacher's levels are counted in.

    The student's, so that maps of equal size are found; where they are resized, the teacher's own.
    """
    return image_size(size) if options.resize else size


def look_at_teacher(
    plans: Mapping[str, PlannedPoint],
    teacher: nn.Module,
    image_size: Callable[[Size], Size],
) -> dict[str, list[Tensor]]:
    """Finds the teacher's chosen levels of the points that ask for them, by the points' names.

    Args:
        plans (Mapping): The planned points.
        teacher (nn.Module): The teacher; its weights do not matter.
        image_size (Callable): The size of its images for that of the student's.

    Raises:
        DistillationError: If there is no such tap, or the teacher cannot be run on a blank image.
    """
    asking = {name: plan for name, plan in plans.items() if plan.options.asks_teacher}
    for name, plan in asking.items():
        check_tap(teacher, plan.options.teacher, f'point {name!r}, teacher tap')
    taps = [plan.options.teacher_tap for plan in asking.values()]
    try:
        (found,), size = probe((teacher, taps, False, image_size))
    except ProbeError as error:
        raise DistillationError(
            f'point {next(iter(asking))!r}: the teacher could not be run on a blank image to '
            f'find teacher_channels; set it. It failed with {error}'
        ) from error
    levels = {}
    for name, plan in asking.items():
        tensors = found[plan.options.teacher_tap]
        with naming(name):
            if not tensors:
                raise teacher_not_called(teacher, plan.options.teacher_tap)
            if plan.options.strides is not None:
                counted = stride_size(plan.options, size, image_size)
                plan.choice.match_strides('teacher', tensors, counted)
            levels[name] = plan.choice.select(tensors, 'teacher')
    return levels
