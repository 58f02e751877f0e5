"""A dry run: one training step of a distillation's config, and what its losses are worth."""

import math
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from ..analysis.models import (
    build_with_random_weights,
    random_batch,
    take_images_of_any_size,
    tell_first_iteration,
)
from ..analysis.timing import Phases
from ..compat import OutOfMemoryError
from ..distillers import Distiller
from ..errors import DistillationError, first_line
from ..taps.probing import sizes_to_try

# A point's loss beside the student's own: beyond these a word is said.
HEAVY, LIGHT = 10.0, 0.01


class Trial(NamedTuple):
    """What one step showed.

    Args:
        seconds (float): Time of forward pass, backward pass and optimizer.
        peak_bytes (int): Peak memory: on a GPU what PyTorch allocated, on the CPU the process's.
        shape (tuple[int, int]): Height and width of the images in pixels.
        batch_size (int): Their number.
        own (float): The sum of the student's own losses.
        losses (dict[str, float]): Those of the points, by their names in the log.
        random (list[str]): Whose weights were random, ``'student'`` and ``'teacher'``, and why.
        weights (dict[str, float]): The weight of each point's ``loss_kd``, where its loss has one.
        reasons (dict[str, str]): Where these come from, of points where that is known.
    """

    seconds: float
    peak_bytes: int
    shape: tuple[int, int]
    batch_size: int
    own: float
    losses: dict[str, float]
    random: list[str]
    weights: dict[str, float]
    reasons: dict[str, str] = {}

    def __str__(self) -> str:
        height, width = self.shape
        lines = [
            f'one step of {self.batch_size} images of noise, {height}×{width}: '
            f'{self.seconds:.2f} s, peak memory {self.peak_bytes / 2**30:.2f} GiB',
            f"the student's own losses: {self.own:.4g}",
        ]
        for name, value in self.losses.items():
            lines.append(f"{name}: {value:.4g}, {_times(value, self.own)} the student's own")
        return '\n'.join([*lines, *self.advice()])

    def advice(self) -> list[str]:
        """What to do about a point whose loss outweighs the student's own, or hardly counts."""
        if self.random:
            return [f'{reason}: the sizes of the losses say nothing yet' for reason in self.random]
        found = []
        for name, value in self.losses.items():
            ratio = value / self.own if self.own else math.inf
            if not name.endswith('loss_kd') or LIGHT <= ratio <= HEAVY:
                continue
            point = name.split('.')[0]
            weight, reason = self.weights.get(point), self.reasons.get(point)
            made_for = '' if weight is None else f' with its weight of {weight:g}'
            made_for += '' if reason is None else f' ({reason})'
            found.append(
                f'{name} is {_times(value, self.own)} the losses of the student{made_for}: look at '
                'it in the log of the first iterations, lower the weight or try '
                'balance=dict(ratio=10.0) in its point, which finds one'
                if ratio > HEAVY
                else f'{name} hardly counts beside the losses of the student{made_for}: raise it, '
                'or try balance=dict(ratio=10.0) in its point'
            )
        return found


def _times(value: float, own: float) -> str:
    return f'{value / own:.3g} times' if own else 'and there are none of'


def try_step(
    cfg: Config,
    shape: tuple[int, int] | None = None,
    batch_size: int = 2,
    device: str = 'cpu',
    read_weights: bool = True,
) -> Trial:
    """Takes one training step on noise with made-up annotations.

    Args:
        cfg (Config): Config of a distillation; its data are not touched.
        shape (tuple[int, int], optional): Height and width of the images in pixels. Defaults to
            256 by 256 or, of models made for a size, that.
        batch_size (int): Their number. Defaults to 2.
        device (str): ``'cpu'`` or a CUDA device.
        read_weights (bool): Whether weights are read or, where the config says so, downloaded, as
            in a training. Where that fails they stay random. Defaults to True.

    Returns:
        Trial: Time, memory and losses.

    Raises:
        DistillationError: If the config is none of a distillation, its points do not fit, or the
            student does not take a step on noise, as one that needs annotations of another kind.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    hint = '' if shape is None else '; there are models that need larger images'
    if shape is not None:
        take_images_of_any_size(cfg)
    distiller, random = _build(cfg, read_weights)
    distiller.to(device).train()
    if shape is None:
        teachers = [teacher.model for teacher in distiller.teachers.values()]
        shape = next(
            (x for x in sizes_to_try(distiller.student, *teachers) if min(x) >= 256),
            (256, 256),
        )
    tell_first_iteration()
    batch = random_batch(distiller.student, batch_size, shape)
    optimizer = torch.optim.SGD((p for p in distiller.parameters() if p.requires_grad), lr=0.0)
    phases = Phases(device)
    start = phases.now()
    with phases('student'):
        try:
            data = distiller.data_preprocessor(batch, True)
            losses = distiller(**data, mode='loss')
            total, values = distiller.parse_losses(losses)
            total.backward()
            optimizer.step()
        except (DistillationError, OutOfMemoryError):
            raise
        except Exception as error:  # a model may ask for annotations that are not made up here
            raise DistillationError(
                f'the step failed on {batch_size} images of noise, {shape[0]}×{shape[1]}: '
                f'{type(error).__name__}: {first_line(error)}{hint}'
            ) from error
    seconds = phases.now() - start
    shape = tuple(data['inputs'].shape[2:])  # a data preprocessor may have padded them
    points = tuple(f'{name}.' for name in distiller.distillation)
    theirs = {k: v for k, v in losses.items() if k.startswith(points)}
    own, _ = distiller.student.parse_losses({k: v for k, v in losses.items() if k not in theirs})
    weights = {
        name: point.loss.loss_weight
        for name, point in distiller.distillation.items()
        if isinstance(getattr(point.loss, 'loss_weight', None), float)
    }
    return Trial(
        seconds,
        phases.peak_bytes['student'],
        shape,
        batch_size,
        own.item(),
        {k: values[k].item() for k in theirs if 'loss' in k},
        random,
        weights,
    )


def _build(cfg: Config, read_weights: bool) -> tuple[Distiller, list[str]]:
    """The distiller with its teacher, and whose weights are random."""
    distiller = _with_random_weights(cfg)
    distiller.student._dump_init_info = lambda: None  # which logs lines for every parameter
    if not read_weights:
        _draw_weights(distiller.student)
        return distiller, ['student and teacher have random weights, as asked for']
    random = []
    try:
        distiller.student.init_weights()
    except Exception as error:  # whatever a download may end with
        random.append(f'the student has random weights ({first_line(error)})')
        _draw_weights(distiller.student)
    try:
        for name, teacher in distiller.teachers.items():
            distiller.use_teacher(teacher.build(torch.device('cpu')), name)
    except (DistillationError, OSError) as error:
        random.append(f'the teacher has random weights ({first_line(error)})')
    return distiller, random


def _draw_weights(student: nn.Module) -> None:
    """Initialises as a training does, without the files: where Sparse R-CNN's boxes start."""
    for module in student.modules():
        if 'checkpoint' in (getattr(module, 'init_cfg', None) or ()):
            module.init_cfg = None
    student.init_weights()


def _with_random_weights(cfg: Config) -> Distiller:
    distiller = build_with_random_weights(cfg)
    if not isinstance(distiller, Distiller) or not distiller.teachers:
        raise DistillationError('the config is not that of a distillation.')
    return distiller
