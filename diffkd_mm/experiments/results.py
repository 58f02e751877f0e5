"""What the runs of a comparison say, from their logs."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from .runs import FINISHED, Arm, Run
from .scalars import is_last, last_step, read_scalars

# Prefixes of MMDetection's metrics, which are fractions; those of the other packages are percent.
FRACTIONS = ('coco/', 'lvis/', 'pascal_voc/', 'openimages/', 'crowd_human/', 'cityscapes/')


def percent(values: list[float], metric: str) -> list[float]:
    """Metrics in percent."""
    return [100 * value if metric.startswith(FRACTIONS) else value for value in values]


# --- files of a run -----------------------------------------------------------------------------


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that a training wrote last, also where its folder was moved since."""
    note = folder / 'last_checkpoint'
    if note.is_file() and (name := Path(note.read_text().strip()).name):
        if (folder / name).is_file():
            return folder / name
    found = [*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def read_test(folder: Path) -> dict:
    """The metrics that tools/test.py wrote last into its work dir."""
    return json.loads(max(folder.glob('*/*.json')).read_text())


def tested(run: Run, split: str, metric: str) -> float | None:
    """The metric of the last checkpoint on a split, if it was tested."""
    result = run.read(f'{split}.json')
    if result.get('fingerprint') != run.arm.fingerprint:
        return None
    return result.get('metrics', {}).get(metric)


def validated_at_the_end(run: Run, metric: str) -> bool:
    """Whether the metric at the end of the training is known: the run is finished."""
    if run.outdated:
        return False
    found = [entry for entry in read_scalars(run.folder) if metric in entry]
    if any(is_last(entry, run.arm.cfg) for entry in found):
        return True
    if last_step(run.arm.cfg) is None and found and run.read(FINISHED):
        return True
    return tested(run, 'val', metric) is not None


# --- what they say ------------------------------------------------------------------------------


@dataclass
class Result:
    """What a finished run says.

    Attributes:
        seed (int): Its seed.
        curve (dict[int, float]): Validation metric by epoch (or iteration), in percent.
        test (float, optional): Metric on the test split in percent, if it was tested.
        times (list[float]): Logged times of a training iteration in seconds.
        seconds (float): Time of all training iterations, without validation.
    """

    seed: int
    curve: dict[int, float]
    test: float | None
    times: list[float]
    seconds: float

    @property
    def splits(self) -> dict[str, float]:
        """The final metric by split."""
        values = dict(val=self.curve[max(self.curve)])
        return values if self.test is None else dict(values, test=self.test)


def read_result(run: Run, metric: str) -> Result | None:
    """What a run says; None unless it is finished."""
    if not validated_at_the_end(run, metric):
        return None
    scalars = read_scalars(run.folder)
    curve = {entry['step']: entry[metric] for entry in scalars if metric in entry}
    if (value := tested(run, 'val', metric)) is not None:
        curve[last_step(run.arm.cfg) or 0] = value
    test = tested(run, 'test', metric)
    steps = sorted((x for x in scalars if 'loss' in x and 'time' in x), key=lambda x: x['step'])
    before = [0, *(entry['step'] for entry in steps)]
    return Result(
        seed=run.seed,
        curve=dict(zip(curve, percent(list(curve.values()), metric))),
        test=None if test is None else percent([test], metric)[0],
        times=[entry['time'] for entry in steps],
        seconds=sum((x['step'] - start) * x['time'] for start, x in zip(before, steps)),
    )


@dataclass
class Summary:
    """What is known of an arm after its runs.

    Attributes:
        arm (Arm): The arm.
        results (list[Result]): Those of the finished runs.
        missing (list[int]): Seeds whose run failed.
    """

    arm: Arm
    results: list[Result]
    missing: list[int]

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def seeds(self) -> list[int]:
        """Seeds of the finished runs."""
        return [result.seed for result in self.results]

    def final(self, split: str = 'val') -> list[float]:
        """The metric at the end, of every seed."""
        return [result.splits[split] for result in self.results]

    @property
    def best(self) -> list[float]:
        """The best validation of every seed."""
        return [max(result.curve.values()) for result in self.results]

    @property
    def seconds(self) -> float:
        """Median time of a training iteration; NaN without runs."""
        # The first of a run warms up.
        times = [time for result in self.results for time in result.times[1:]]
        return statistics.median(times) if times else float('nan')

    @property
    def minutes(self) -> float:
        """Time of the training iterations of all runs."""
        return sum(result.seconds for result in self.results) / 60


def summarise(arms: list[Arm], runs: list[Run], metric: str, split: str = 'val') -> list[Summary]:
    """Reads the logs of the runs of every arm.

    Args:
        arms (list[Arm]): The arms.
        runs (list[Run]): Their runs.
        metric (str): Metric of the validations.
        split (str): A run that was not tested on it is missing.
    """
    summaries = []
    for arm in arms:
        found = {run.seed: read_result(run, metric) for run in runs if run.arm is arm}
        results = [x for x in found.values() if x is not None and split in x.splits]
        missing = sorted(found.keys() - {result.seed for result in results})
        summaries.append(Summary(arm, results, missing))
    return summaries
