"""The teachers of a distiller, by their names: one or several, each for points of its own."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..compat import OutOfMemoryError
from ..errors import DistillationError
from ..taps import Record, runs_whole
from .point_options import PointOptions
from .preprocessing import (
    Pixels,
    check_channels,
    convert_images,
    pixels_of_both,
    with_known_sizes,
)
from .scaling import divisor_of, resize_batch, scale_regions
from .student_model import refuse_semi_supervised
from .teacher import ONLY, FrozenTeacher, label


def teacher_options(teacher: Mapping | None) -> dict[str, Mapping]:
    """The options of each teacher by its name, in a distiller's ``teacher``.

    That is the options of one, which is called ``'teacher'`` then; or a dict of several by their
    names, none of which is that of an option.
    """
    if teacher is None:
        return {}
    options = teacher.values() if isinstance(teacher, Mapping) else (None,)
    if teacher and all(isinstance(x, Mapping) for x in options):
        if not {'config', 'checkpoint'} & set(teacher):
            return dict(teacher)
    return {ONLY: teacher}


class Teachers(dict[str, FrozenTeacher]):
    """The teachers by their names; copies of a distiller share them.

    Args:
        teacher (dict, optional): Options of :class:`FrozenTeacher`, or a dict of such by the
            teachers' names.
        points (dict, optional): The distiller's ``points``.
        inherit (Sequence[str] | str | dict): Its ``inherit``.

    Raises:
        DistillationError: If an option is wrong, or there is one without the other: teachers, and
            something to learn from them.
    """

    def __init__(
        self,
        teacher: Mapping | None,
        points: Mapping | None,
        inherit: Sequence[str] | str | Mapping,
    ) -> None:
        super().__init__()
        for name, options in teacher_options(teacher).items():
            if not isinstance(name, str) or not name.isidentifier():
                raise DistillationError(
                    f"teacher: a teacher's name {name!r} must be an identifier."
                )
            self[name] = FrozenTeacher.from_options(options, name)
        if (points or inherit) and not self:
            raise DistillationError(
                'points and inherit need a teacher: teacher=dict(config=…, checkpoint=…).'
            )
        if self and not (points or inherit):
            raise DistillationError(
                'there is a teacher, but neither points nor inherit say what to learn from it.'
            )
        # Of the student and each teacher that was taken.
        self._pixels: dict[str, tuple[Pixels | None, Pixels | None]] = {}
        self._divisor = 1  # of the sizes of the student's batches

    @property
    def only(self) -> FrozenTeacher | None:
        """The only teacher, if there is one.

        Raises:
            DistillationError: If there are several.
        """
        if len(self) > 1:
            raise DistillationError(f'there are several teachers: {", ".join(self)}.')
        return next(iter(self.values()), None)

    def check_name(self, name: str, where: str) -> None:
        """Checks that there is a teacher of a name.

        Raises:
            DistillationError: Names the place, and the teachers there are.
        """
        if name not in self:
            there = f'the teachers are {", ".join(self)}'
            if list(self) == [ONLY]:
                there = 'there is a single one, which has none'
            raise DistillationError(f'{where}: there is no teacher of the name {name!r}; {there}.')

    def of(self, point: PointOptions) -> FrozenTeacher:
        """The teacher of a point.

        Raises:
            DistillationError: If the point does not say which of several, or names none of them.
        """
        where = f'point {point.name!r}'
        if point.teacher_name is not None:
            self.check_name(point.teacher_name, where)
            return self[point.teacher_name]
        if len(self) > 1:
            raise DistillationError(
                f'{where}: say by teacher_name which teacher it learns from; the teachers are '
                f'{", ".join(self)}.'
            )
        return self.only

    def group(self, points: Mapping[str, PointOptions]) -> dict[str, list[str]]:
        """Names of points by the name of their teacher.

        Args:
            points (Mapping): Options of the points by their names.

        Raises:
            DistillationError: See :meth:`of`.
        """
        groups: dict[str, list[str]] = {name: [] for name in self}
        for point, options in points.items():
            groups[self.of(options).name].append(point)
        return groups

    def parts_to_inherit(self, inherit: Sequence[str] | str | Mapping) -> dict[str, Sequence[str]]:
        """The student's parts that start from a teacher's, by the teacher's name.

        Raises:
            DistillationError: If it is not said which of several, or there is no such teacher.
        """
        if inherit and not isinstance(inherit, Mapping):
            if len(self) > 1:
                raise DistillationError(
                    f'inherit={inherit!r}: say of which teacher, by inherit=dict('
                    f'{next(iter(self))}=[…]); the teachers are {", ".join(self)}.'
                )
            inherit = dict.fromkeys(self, inherit)
        for name in inherit:
            self.check_name(name, 'inherit')
        return {k: [x] if isinstance(x, str) else x for k, x in dict(inherit).items()}

    def check_all_teach(self, groups: Mapping[str, list[str]], inherit: Mapping) -> None:
        """Checks that none of the teachers stands idle.

        Args:
            groups (Mapping): See :meth:`group`.
            inherit (Mapping): See :meth:`parts_to_inherit`.

        Raises:
            DistillationError: If one does.
        """
        for name, group in groups.items():
            if not group and name not in inherit:
                raise DistillationError(
                    f'{label(name)}: nothing is learned from it; a point does by '
                    f'teacher_name={name!r}.'
                )

    def is_taken(self, name: str) -> bool:
        """Whether a teacher has its model, checked against the student."""
        return name in self._pixels

    def take(self, name: str, model: nn.Module, student: nn.Module) -> None:
        """Takes a model as one of the teachers and freezes it.

        Args:
            name (str): The teacher's name.
            model (nn.Module): The model with its weights, on the student's device.
            student (nn.Module): The student.

        Raises:
            DistillationError: If the student's images cannot be made its own.
        """
        refuse_semi_supervised(model, 'teacher')
        self[name].model = model.eval().requires_grad_(False)
        check_channels(student, model)
        self._pixels[name] = pixels_of_both(student.data_preprocessor, model.data_preprocessor)
        self._divisor = divisor_of(student.data_preprocessor)

    def images_for(
        self, name: str, inputs: Tensor, data_samples: list | None
    ) -> tuple[Tensor, list | None]:
        """The images that a teacher sees in place of the student's, and their data samples.

        Args:
            name (str): The teacher's name.
            inputs (Tensor): Images of shape (B, 3, H, W), as the student's preprocessor made them.
            data_samples (list, optional): Data samples of the images.
        """
        seen, wanted = self._pixels[name]
        old = tuple(inputs.shape[2:])
        size = self[name].image_size(old)
        if seen == wanted and size == old:
            return inputs, data_samples
        known = with_known_sizes(inputs, data_samples, self._divisor)
        images = convert_images(inputs, known, seen, wanted)
        if size == old:
            return images, data_samples
        pad_value = wanted.pad_value if wanted else 0
        divisor = divisor_of(self[name].model.data_preprocessor)
        return resize_batch(images, known, size, pad_value, divisor)

    def run(
        self,
        points: Mapping[str, PointOptions],
        inputs: Tensor,
        data_samples: list | None,
        regions: dict[str, list[Tensor]] | None,
    ) -> dict[str, Record]:
        """Runs each teacher as deep as the taps of its points need.

        Args:
            points (Mapping): Options of the points by their names.
            inputs (Tensor): Images of shape (B, 3, H, W), as the student's preprocessor made them.
            data_samples (list, optional): Data samples of the images.
            regions (dict, optional): The student's regions by the path of its RoI extractor.

        Returns:
            dict[str, Record]: What the teacher's tap gave, by the point's name.

        Raises:
            DistillationError: If a teacher cannot be run; names the points that need it whole.
        """
        records = {}
        for name, group in self.group(points).items():
            if group:
                images, samples = self.images_for(name, inputs, data_samples)
                mine = {point: points[point] for point in group}
                rois = regions and scale_regions(regions, inputs.shape[2:], images.shape[2:])
                records |= _run(self[name], mine, images, samples, rois)
        return records


def _run(
    teacher: FrozenTeacher,
    points: Mapping[str, PointOptions],
    images: Tensor,
    data_samples: list | None,
    regions: dict[str, list[Tensor]] | None,
) -> dict[str, Record]:
    """Runs a teacher on its own kind of images."""
    taps = [options.teacher_tap for options in points.values()]
    try:
        records = teacher.run(teacher.model, taps, images, data_samples, regions)
    except (DistillationError, OutOfMemoryError):
        raise
    except Exception as error:
        whole = [
            f'point {name!r}: teacher tap {options.teacher!r}'
            for name, options in points.items()
            if options.regions is None and runs_whole(teacher.model, [options.teacher])
        ]
        if not whole:
            raise
        raise DistillationError(
            f'{", ".join(whole)}: the {teacher.label}, a {type(teacher.model).__name__}, cannot be '
            f'run for it, neither as a whole nor for predicting: {type(error).__name__}: {error}'
        ) from error
    return {name: records[options.teacher_tap] for name, options in points.items()}
