"""What the runs of a comparison say, from their logs."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from .runs import Run, resolve
from .scalars import read_scalars

# Prefixes of MMDetection's metrics, which are fractions; those of the other packages are percent.
FRACTIONS = ('coco/', 'lvis/', 'pascal_voc/', 'openimages/', 'crowd_human/')


@dataclass
class Summary:
    """What is known of a config after its runs.

    Attributes:
        name (str): The config's name.
        seeds (list[int]): Seeds of the finished runs.
        curves (list[dict[int, float]]): Metric by epoch (or iteration), one per finished run.
        parameters (float): Parameters of the tested model, in millions.
        seconds (float): Median time of a training iteration, in seconds.
        missing (list[int]): Seeds whose run failed or logged no such metric.
    """

    name: str
    seeds: list[int]
    curves: list[dict[int, float]]
    parameters: float
    seconds: float
    missing: list[int]

    @property
    def final(self) -> list[float]:
        return [curve[max(curve)] for curve in self.curves]

    @property
    def best(self) -> list[float]:
        return [max(curve.values()) for curve in self.curves]


def student_parameters(cfg: Config) -> float:
    """Millions of parameters of the model that is tested."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model_cfg = cfg.model.copy()
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model_cfg)
    return sum(p.numel() for p in getattr(model, 'student', model).parameters()) / 1e6


def summarise(config: Path, runs: list[Run], metric: str) -> Summary:
    """Reads the logs of a config's runs."""
    seeds, curves, times, missing = [], [], [], []
    for run in runs:
        scalars = read_scalars(run.folder)
        curve = {entry['step']: entry[metric] for entry in scalars if metric in entry}
        if not run.finished or not curve:
            missing.append(run.seed)
            continue
        seeds.append(run.seed)
        curves.append(curve)
        times += [entry['time'] for entry in scalars if 'loss' in entry][1:]  # the first warms up
    return Summary(
        name=config.stem,
        seeds=seeds,
        curves=curves,
        parameters=student_parameters(resolve(config, runs[0].options)),
        seconds=statistics.median(times) if times else float('nan'),
        missing=missing,
    )


def percent(values: list[float], metric: str) -> list[float]:
    return [100 * value if metric.startswith(FRACTIONS) else value for value in values]


def mean_and_deviation(values: list[float]) -> str:
    if not values:
        return '–'
    mean = f'{statistics.mean(values):.2f}'
    return mean + (f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else '')
