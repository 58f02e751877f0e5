"""What DiffKD's step costs beside FitNet's and the student's alone."""

import statistics
from copy import deepcopy

from mmengine.config import Config
from torch import nn

from diffkd_mm.distillers import Distiller

from .models import build_beside, build_distiller, diffkd_points, random_batch
from .steps import Conditions, Step
from .timing import Phases

# What FitNet's connector has of a DiffKD connector's options.
SHARED_OPTIONS = ('student_channels', 'teacher_channels', 'num_levels', 'standardize')
STUDENT, BESIDE, FITNET, DIFFKD = 'student', 'student, teacher', 'FitNet', 'DiffKD'


def as_fitnet(cfg: Config) -> Config:
    """A config with FitNet's 1×1 convolution in place of each DiffKD connector.

    Raises:
        DistillationError: If there is none.
    """
    cfg = Config(cfg.to_dict())
    for name in diffkd_points(cfg):
        point = cfg.model.points[name]
        kept = {k: v for k, v in point.connector.items() if k in SHARED_OPTIONS}
        point.connector = dict(type='ConvConnector', **kept)
    return cfg


def build_variants(cfg: Config, device: str) -> dict[str, nn.Module]:
    """The student alone, FitNet's distiller and the config's, which share a frozen teacher."""
    fitnet = as_fitnet(cfg)
    distiller = build_distiller(cfg, device)
    student = deepcopy(distiller.student)
    return {STUDENT: student, FITNET: build_beside(fitnet, distiller), DIFFKD: distiller}


def measure_costs(cfg: Config, on: Conditions) -> list[dict]:
    """Whole steps of the student alone, of FitNet and of the config, in turns.

    Args:
        cfg (Config): Config of a distillation with DiffKD connectors.
        on (Conditions): What it is measured on.

    Returns:
        list[dict]: Rows that each add something: the student alone, the teacher beside it, FitNet's
        points, DiffKD's. ``seconds`` (median), ``added_seconds`` beyond the row before (median of
        the differences within a turn), ``ratio`` to FitNet's step with its minimum and maximum,
        and on a GPU ``peak_bytes``, what a step needs beside what is held between steps.

    Raises:
        DistillationError: If the config has no DiffKD connector.
    """
    models = build_variants(cfg, on.device)
    batch = random_batch(models[STUDENT], on.batch_size, on.shape)
    steps, phases = {}, {}
    for name, model in models.items():
        steps[name], phases[name] = Step(model, cfg, batch, on.amp), Phases(on.device)
        phases[name].wrap(model, 'forward', 'student')
        if isinstance(model, Distiller):
            phases[name].wrap(model, 'run_teacher', 'teacher')
        steps[name]()
    turns, peaks = [], dict.fromkeys(models, 0)
    for i in range(on.iters):
        turn = {}
        # Whoever comes first or last does so in turns.
        for name in sorted(models, key=lambda name: (list(models).index(name) + i) % len(models)):
            clock = phases[name]
            clock.seconds['teacher'], before = 0.0, clock.held()
            turn[name] = steps[name](clock)
            peaks[name] = max(peaks[name], max(clock.peak_bytes.values()) - before)
        turn[BESIDE] = turn[STUDENT] + phases[FITNET].seconds['teacher']
        turns.append(turn)
    rows = []
    for before, name in zip((None, STUDENT, BESIDE, FITNET), (STUDENT, BESIDE, FITNET, DIFFKD)):
        ratios = [turn[name] / turn[FITNET] for turn in turns]
        added = [turn[name] - (turn[before] if before else 0) for turn in turns]
        rows.append(
            dict(
                variant=name,
                seconds=statistics.median(turn[name] for turn in turns),
                added_seconds=statistics.median(added),
                ratio=statistics.median(ratios),
                ratio_min=min(ratios),
                ratio_max=max(ratios),
                # The process's memory says little about a step: freed pages stay with it.
                peak_bytes=peaks.get(name) if phases[FITNET].on_cuda else None,
            )
        )
    return rows
