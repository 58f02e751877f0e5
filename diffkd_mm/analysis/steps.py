"""Training steps of a distillation: how long their parts take and what they store."""

import statistics
from copy import deepcopy
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from .models import build_distiller, random_batch, tell_first_iteration
from .timing import PHASES, Phases, saved_storages


class Conditions(NamedTuple):
    """What a step is measured on.

    Attributes:
        device (str): ``'cpu'`` or a CUDA device.
        shape (tuple[int, int]): Height and width of the images in pixels.
        batch_size (int): Images per step.
        amp (bool): Mixed precision as ``tools/train.py --amp`` has it: float16 with loss scaling on
            a GPU, bfloat16 on the CPU.
        iters (int): Measured steps.
    """

    device: str = 'cpu'
    shape: tuple[int, int] = (800, 1216)
    batch_size: int = 1
    amp: bool = False
    iters: int = 5


class Step:
    """A training step.

    Args:
        model (nn.Module): A distiller or a plain student.
        cfg (Config): Gives the optimizer.
        batch (dict): What the data loader would give.
        amp (bool): Mixed precision, see :class:`Conditions`. Defaults to False.
    """

    def __init__(self, model: nn.Module, cfg: Config, batch: dict, amp: bool = False) -> None:
        tell_first_iteration()
        self.model = model
        wrapper = dict(cfg.optim_wrapper)
        if amp:
            on_cpu = next(model.parameters()).device.type == 'cpu'
            wrapper['type'] = 'diffkd_mm.CPUAmpOptimWrapper' if on_cpu else 'AmpOptimWrapper'
        self.optim_wrapper = build_optim_wrapper(model, wrapper)
        for group in self.optim_wrapper.param_groups:
            group['lr'] = 0.0  # random weights soon diverge; a step takes as long without moving
        self.batch = batch
        self.device = next(model.parameters()).device.type

    def forward(self) -> Tensor:
        """The sum of all losses."""
        # Preprocessing changes the samples, so they are copied.
        samples = [x.clone() for x in self.batch['data_samples']]
        with self.optim_wrapper.optim_context(self.model):
            data = self.model.data_preprocessor({**self.batch, 'data_samples': samples}, True)
            losses = self.model(**data, mode='loss')
            return self.model.parse_losses(losses)[0]

    def __call__(self, phases: Phases | None = None) -> float:
        """Runs the step and returns how many seconds it took."""
        phases = phases or Phases(self.device)
        start = phases.now()
        loss = self.forward()
        with phases('backward'):
            self.optim_wrapper.backward(loss)
        with phases('optimizer'):
            self.optim_wrapper.step()
            self.optim_wrapper.zero_grad()
        return phases.now() - start


def measure_phases(cfg: Config, on: Conditions) -> dict:
    """Runs a few steps and returns the medians, in seconds and bytes."""
    distiller = build_distiller(cfg, on.device)
    batch = random_batch(distiller.student, on.batch_size, on.shape)
    step = Step(distiller, cfg, batch, on.amp)
    step()  # first calls allocate and choose kernels
    with saved_storages(list(distiller.parameters())) as storages:
        step.forward()
    phases = Phases(on.device)
    phases.wrap(distiller, 'run_teacher', 'teacher')
    phases.wrap(distiller.student, 'forward', 'student')
    for point in distiller.distillation.values():
        phases.wrap(point.loss, 'forward', 'losses')
        if point.connector is not None:
            phases.wrap(point.connector, 'forward', 'connectors')
    totals, parts = [], []
    for _ in range(on.iters):
        phases.seconds = dict.fromkeys(PHASES, 0.0)
        totals.append(step(phases))
        parts.append(phases.seconds)
    seconds = {phase: statistics.median(x[phase] for x in parts) for phase in PHASES}
    return dict(
        shape=list(on.shape),
        batch_size=on.batch_size,
        amp=on.amp,
        seconds=dict(seconds, step=statistics.median(totals)),
        peak_bytes=dict(phases.peak_bytes, step=max(phases.peak_bytes.values())),
        saved_bytes=sum(storages.values()),
    )


def measure_overhead(cfg: Config, on: Conditions, points: bool = False) -> dict:
    """Steps of the plain student and of the same student in a distiller, in turns.

    Args:
        cfg (Config): Config of a distillation.
        on (Conditions): What it is measured on.
        points (bool): Whether the distiller has its points, and a teacher whose time does not
            count. Defaults to False.

    Returns:
        dict: Medians in seconds; median, least and greatest ratio.
    """
    if not points:
        cfg.model.pop('teacher', None)
        cfg.model.pop('points', None)
        cfg.model.pop('inherit', None)
    distiller = build_distiller(cfg, on.device)
    plain = deepcopy(distiller.student)
    batch = random_batch(plain, on.batch_size, on.shape)
    steps = [Step(model, cfg, batch, on.amp) for model in (plain, distiller)]
    phases = Phases(on.device)
    phases.wrap(distiller, 'run_teacher', 'teacher')
    for step in steps:
        step()
    # The order alternates, in case the first of two does better or worse.
    seconds: list[list[float]] = [[], []]
    for i in range(on.iters):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            phases.seconds['teacher'] = 0.0
            seconds[which].append(steps[which]() - phases.seconds['teacher'])
    ratios = [wrapped / alone for alone, wrapped in zip(*seconds)]
    return dict(
        student_seconds=statistics.median(seconds[0]),
        distiller_seconds=statistics.median(seconds[1]),
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
    )


def measure_teacher(cfg: Config, on: Conditions) -> dict:
    """The teachers as a step runs them and their whole forward pass, in turns, and the whole step.

    The whole pass is MMEngine's ``mode='tensor'``: of a two-stage detector with its proposals, of a
    cascade with all its stages.
    """
    distiller = build_distiller(cfg, on.device)
    batch = random_batch(distiller.student, on.batch_size, on.shape)
    step, phases = Step(distiller, cfg, batch, on.amp), Phases(on.device)
    phases.wrap(distiller, 'run_teacher', 'teacher')
    samples = [x.clone() for x in batch['data_samples']]
    data = distiller.data_preprocessor({**batch, 'data_samples': samples}, True)

    step()
    images = {
        name: distiller.teachers.images_for(name, data['inputs'], data['data_samples'])
        for name in distiller.teachers
    }

    @torch.no_grad()
    def whole() -> float:
        start = phases.now()
        with step.optim_wrapper.optim_context(distiller):
            for name, teacher in distiller.teachers.items():
                teacher.model(*images[name], mode='tensor')
        return phases.now() - start

    whole()
    seconds: dict[str, list[float]] = dict(teacher=[], whole=[], step=[])
    for _ in range(on.iters):
        phases.seconds['teacher'] = 0.0
        seconds['step'].append(step())
        seconds['teacher'].append(phases.seconds['teacher'])
        seconds['whole'].append(whole())
    ratios = [tapped / all_of_it for tapped, all_of_it in zip(seconds['teacher'], seconds['whole'])]
    shares = [tapped / total for tapped, total in zip(seconds['teacher'], seconds['step'])]
    return dict(
        teacher_seconds=statistics.median(seconds['teacher']),
        whole_seconds=statistics.median(seconds['whole']),
        teacher_ratio=statistics.median(ratios),
        teacher_ratio_min=min(ratios),
        teacher_ratio_max=max(ratios),
        teacher_share=statistics.median(shares),
    )
