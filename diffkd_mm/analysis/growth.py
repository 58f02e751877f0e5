"""How a step of a distillation grows: with the images, and with what its points are made of."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from mmengine.config import Config

from diffkd_mm.distillers import Distiller
from diffkd_mm.taps import blank_image, left_as_found

from .flops import MacCounter, count_distillation, count_model
from .models import build_beside, build_distiller, diffkd_points, random_batch
from .steps import Conditions, Step
from .timing import Phases, saved_storages

SIZES = (0.5, 0.75, 1.0, 1.5)  # of height and width
BATCHES = (1, 2, 4)  # times the batch size
EVALUATIONS = (1, 2, 5, 10)
CHANNELS = (0.25, 0.5, 1.0)  # of the teacher's
POINTS = (1, 2, 3, 4)
MULTIPLE = 32  # of sizes in pixels


class Setting(NamedTuple):
    """A step to be measured.

    Attributes:
        value (int): Where it stands on its axis.
        distiller (Distiller): What takes it.
        shape (tuple[int, int]): Height and width of its images in pixels.
        batch_size (int): Their number.
    """

    value: int
    distiller: Distiller
    shape: tuple[int, int]
    batch_size: int


class Growth:
    """Steps of one config along axes; the distillers share their teachers.

    Args:
        cfg (Config): Config of a distillation with DiffKD connectors.
        on (Conditions): What is measured; where an axis is not about size or batch, these.

    Raises:
        DistillationError: If there is no DiffKD connector.
    """

    def __init__(self, cfg: Config, on: Conditions) -> None:
        self.cfg = cfg
        self.on = on
        self.names = diffkd_points(cfg)
        self.base = build_distiller(cfg, on.device)

    def size(self) -> Iterator[Setting]:
        """Pixels of an image."""
        sizes = (
            tuple(max(round(share * x / MULTIPLE), 1) * MULTIPLE for x in self.on.shape)
            for share in SIZES
        )
        for height, width in dict.fromkeys(sizes):
            yield Setting(height * width, self.base, (height, width), self.on.batch_size)

    def batch(self) -> Iterator[Setting]:
        """Images of a step."""
        for times in BATCHES:
            number = times * self.on.batch_size
            yield Setting(number, self.base, self.on.shape, number)

    def evaluations(self) -> Iterator[Setting]:
        """Evaluations of the denoiser that refine the student, N."""
        for number in EVALUATIONS:
            yield self._with(number, lambda point, n=number: _set(point, num_inference_steps=n))

    def channels(self) -> Iterator[Setting]:
        """Channels of the autoencoder's latent, in which the diffusion takes place."""
        most = max(self.base.distillation[self.names[0]].connector.teacher_channels)
        for share in CHANNELS:
            number = max(round(share * most), 1)
            yield self._with(number, lambda point, n=number: _set(point, latent_channels=n))

    def levels(self) -> Iterator[Setting]:
        """Levels that are compared, the first ones."""
        most = min(self.base.distillation[name].connector.num_levels for name in self.names)
        for number in range(1, most + 1):
            yield self._with(number, lambda point, n=number: _first_levels(point, n))

    def points(self) -> Iterator[Setting]:
        """Points, all like the first."""
        first = self.names[0]
        for number in POINTS:
            copies = {f'{first}_{i}': self.cfg.model.points[first] for i in range(number)}
            yield self._setting(number, copies)

    def _with(self, value: int, change: Callable[[dict], None]) -> Setting:
        points = deepcopy(dict(self.cfg.model.points))
        for name in self.names:
            change(points[name])
        return self._setting(value, points)

    def _setting(self, value: int, points: Mapping[str, dict]) -> Setting:
        cfg = Config(self.cfg.to_dict())
        cfg.model.points = {name: dict(point) for name, point in points.items()}
        distiller = build_beside(cfg, self.base)
        return Setting(value, distiller, self.on.shape, self.on.batch_size)


AXES = ('size', 'batch', 'levels', 'channels', 'evaluations', 'points')


def _set(point: dict, **options: Any) -> None:
    point['connector'] = dict(point['connector'], **options)


def _first_levels(point: dict, number: int) -> None:
    if point.get('strides') is not None:
        point['strides'] = list(point['strides'])[:number]
    else:
        for side in ('student_levels', 'teacher_levels'):
            point[side] = list(point.get(side) or range(number))[:number]
    kept = {k: v for k, v in point['connector'].items() if k != 'num_levels'}
    for side in ('student_channels', 'teacher_channels'):
        if isinstance(kept.get(side), Sequence):
            kept[side] = list(kept[side])[:number]
    point['connector'] = kept


def measure_growth(cfg: Config, on: Conditions, axes: Sequence[str] = AXES) -> list[dict]:
    """Measures steps along axes; those of an axis in turns.

    Args:
        cfg (Config): Config of a distillation with DiffKD connectors.
        on (Conditions): What is measured.
        axes (Sequence[str]): Some of :data:`AXES`.

    Returns:
        list[dict]: ``axis``, ``value``, ``seconds`` (median), ``seconds_min`` and ``seconds_max``
        of a step, ``saved_bytes`` that the forward pass stores for the backward pass,
        ``peak_bytes`` beside what is held between steps (on a GPU, None otherwise), and ``macs``,
        its multiply-adds, see :func:`count_step`.

    Raises:
        DistillationError: If the config has no DiffKD connector.
    """
    growth = Growth(cfg, on)
    return [row for axis in axes for row in _measure_axis(growth, axis)]


def _measure_axis(growth: Growth, axis: str) -> list[dict]:
    on = growth.on
    steps, rows = [], []
    for setting in getattr(growth, axis)():
        distiller = setting.distiller
        batch = random_batch(distiller.student, setting.batch_size, setting.shape)
        step = Step(distiller, growth.cfg, batch, on.amp)
        step()
        with saved_storages(list(distiller.parameters())) as storages:
            step.forward()
        steps.append(step)
        saved = sum(storages.values())
        rows.append(dict(axis=axis, value=setting.value, saved_bytes=saved))
        rows[-1]['macs'] = setting.batch_size * count_step(distiller, setting.shape)
    seconds: list[list[float]] = [[] for _ in steps]
    peaks = [0] * len(steps)
    for i in range(on.iters):
        for j in range(len(steps)) if i % 2 == 0 else reversed(range(len(steps))):
            phases = Phases(on.device)
            before = phases.held()
            with phases('student'):
                seconds[j].append(steps[j]())
            peaks[j] = max(peaks[j], phases.peak_bytes['student'] - before)
    on_cuda = torch.device(on.device).type == 'cuda'
    return [
        dict(
            **row,
            seconds=statistics.median(times),
            seconds_min=min(times),
            seconds_max=max(times),
            peak_bytes=peak if on_cuda else None,
        )
        for row, times, peak in zip(rows, seconds, peaks)
    ]


@torch.no_grad()
def count_step(distiller: Distiller, shape: tuple[int, int]) -> int:
    """Multiply-adds of a training step on one image, of convolutions and matrix products.

    Those of the student's and the connectors' forward pass three times, since the backward pass
    takes two products for each, and of the teachers', as deep as they run, once. That layers are
    frozen is not seen, so this is a bound for them.

    Args:
        distiller (Distiller): With its teachers; left in training mode.
        shape (tuple[int, int]): Height and width of the image in pixels.
    """
    with left_as_found(distiller):
        distiller.eval()
        student = count_model(distiller.student, shape).macs
        points = count_distillation(distiller, shape)
        connectors = sum(points[x].macs or 0 for x in distiller.distillation if x in points)
        image, samples = blank_image(distiller.student, shape)
        counter = MacCounter(*(teacher.model for teacher in distiller.teachers.values()))
        with counter():
            distiller.run_teacher(image, samples)
    return 3 * (student + connectors) + counter.macs()[0]
