"""The frozen teacher as it was built against the teacher as a distillation runs it."""

import gc
import statistics
from copy import deepcopy

from mmengine.config import Config
from torch import nn

from diffkd_mm.distillers.teacher_speed import TeacherRun, tap_difference
from diffkd_mm.taps import run_to_taps

from .models import build_distiller, random_batch
from .steps import Conditions, Step
from .timing import Phases

COMPILED = 'compiled'


def measure_teacher_speed(cfg: Config, on: Conditions, others: tuple[str, ...]) -> list[dict]:
    """Runs a teacher up to its taps: as built, as a step runs it, and by its options, in turns.

    Weights are random.

    Args:
        cfg (Config): Config of a distillation.
        on (Conditions): What it is measured on.
        others (tuple[str, ...]): Some or none of ``'bfloat16'``, ``'float16'``, and
            ``'compiled'``, which also compiles it in float32 and in each of these.

    Returns:
        list[dict]: One row per variant: ``variant``, ``seconds`` (median), ``ratio``, its minimum
        and maximum, ``weight_bytes``, ``peak_bytes`` (what a run needs beside the weights) and
        ``difference`` at the taps, as a share of a tensor's largest value.
    """
    distiller = build_distiller(cfg, on.device)
    teacher = distiller.teacher
    calls: list[tuple] = []
    run_teacher = distiller.run_teacher
    distiller.run_teacher = lambda *args: calls.append(args) or run_teacher(*args)
    model = deepcopy(teacher.model)  # as built: a run changes it
    Step(distiller, cfg, random_batch(distiller.student, on.batch_size, on.shape)).forward()
    args, *_ = calls
    runs = {'float32': TeacherRun()}
    runs |= {dtype: TeacherRun(dtype) for dtype in others if dtype != COMPILED}
    if COMPILED in others:
        runs |= {
            f'{name}, {COMPILED}': TeacherRun(None if name == 'float32' else name, compile=True)
            for name in runs
        }
    for run_ in runs.values():
        run_.untouched = teacher.run.untouched
    variants = {'as built': run_to_taps, **runs}
    models = {name: deepcopy(model) for name in variants}
    phases = Phases(on.device)

    def run(name: str) -> tuple[float, dict]:
        teacher.model, teacher.run = models[name], variants[name]
        gc.collect()
        start = phases.now()
        records = run_teacher(*args)
        return phases.now() - start, records

    for name in variants:  # the first run makes the changes
        run(name)
    expected = run('as built')[1]
    rows = {name: _weigh(run, name, phases, models[name], expected) for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for i in range(on.iters):
        for name in variants if i % 2 == 0 else reversed(variants):
            seconds[name].append(run(name)[0])
    for name, row in rows.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds['as built'])]
        row['seconds'] = statistics.median(seconds[name])
        row['ratio'] = statistics.median(ratios)
        row['ratio_min'], row['ratio_max'] = min(ratios), max(ratios)
    return list(rows.values())


def _weigh(run, name: str, phases: Phases, model: nn.Module, expected: dict) -> dict:
    """What a variant takes of memory and changes at the taps."""
    before = phases.held()
    with phases('teacher'):
        _, found = run(name)
    peak, phases.peak_bytes['teacher'] = phases.peak_bytes['teacher'], 0
    return dict(
        variant=name,
        weight_bytes=sum(x.nbytes for x in model.parameters()),
        peak_bytes=max(peak - before, 0),
        difference=tap_difference(found, expected),
    )
