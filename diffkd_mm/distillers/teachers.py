"""The teacher of a distiller: read from its config, and run for the points that learn from it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..errors import DistillationError
from ..taps import Record, run_to_taps, runs_whole
from .point_options import PointOptions
from .teacher import FrozenTeacher


def read_teacher(
    teacher: dict | None, points: dict | None, inherit: Sequence[str] | str
) -> FrozenTeacher | None:
    """Reads a distiller's ``teacher``, if it has one.

    Raises:
        DistillationError: If an option is wrong, or there is one without the other: a teacher, and
            something to learn from it.
    """
    read = None if teacher is None else FrozenTeacher.from_options(teacher)
    if (points or inherit) and read is None:
        raise DistillationError(
            'points and inherit need a teacher: teacher=dict(config=…, checkpoint=…).'
        )
    if read is not None and not (points or inherit):
        raise DistillationError(
            'there is a teacher, but neither points nor inherit say what to learn from it.'
        )
    return read


def run_for_points(
    teacher: nn.Module,
    points: Mapping[str, PointOptions],
    images: Tensor,
    data_samples: list | None,
    regions: dict[str, list[Tensor]] | None,
) -> dict[str, Record]:
    """Runs a teacher as deep as the taps of points need.

    Args:
        teacher (nn.Module): The teacher.
        points (Mapping): Options of the points by their names.
        images (Tensor): The teacher's kind of images, of shape (B, 3, H, W).
        data_samples (list, optional): Data samples of the images.
        regions (dict, optional): The student's regions by the path of its RoI extractor.

    Returns:
        dict[str, Record]: What the tap gave, by the point's name.

    Raises:
        DistillationError: If the teacher cannot be run; names the points that need it whole.
    """
    taps = [options.teacher_tap for options in points.values()]
    try:
        records = run_to_taps(teacher, taps, images, data_samples, regions)
    except (DistillationError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        whole = [
            f'point {name!r}: teacher tap {options.teacher!r}'
            for name, options in points.items()
            if options.regions is None and runs_whole(teacher, [options.teacher])
        ]
        if not whole:
            raise
        raise DistillationError(
            f'{", ".join(whole)}: the teacher, a {type(teacher).__name__}, cannot be run for it, '
            f'neither as a whole nor for predicting: {type(error).__name__}: {error}'
        ) from error
    return {name: records[options.teacher_tap] for name, options in points.items()}
