"""The scalars that MMEngine's ``LocalVisBackend`` logs of a training, one JSON a line."""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

from mmengine.config import Config

from diffkd_mm.errors import DistillationError

SCALARS = '*/vis_data/scalars.json'  # one for each time that a training was started or resumed
# Entries of a validation that are no metrics.
BESIDES = {'step', 'epoch', 'iter', 'time', 'data_time', 'memory', 'undated'}


def parse_lines(lines: Iterable[str | bytes]) -> Iterator[dict]:
    """The entries of a log, without a last line that was cut short when the training was killed."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and 'step' in entry and not is_of_teacher(entry):
            yield entry


def is_of_teacher(entry: dict) -> bool:
    """Whether an entry is what TeacherMetricHook logs, and not of the student."""
    # A point may be called teacher, whose losses are those of an iteration.
    return 'loss' not in entry and any(key.startswith(('teacher/', 'teacher.')) for key in entry)


def read_scalars(folder: Path) -> list[dict]:
    """The logged scalars of a run; those of a resumed part replace what they repeat."""
    by_step = {}
    for file in sorted(folder.glob(SCALARS)):
        trained = 0
        for entry in parse_lines(file.read_text(errors='replace').splitlines()):
            if 'loss' in entry:
                trained = entry['step']
            elif entry['step'] == 0:
                # MMEngine's default dates a validation by the epoch, which a training that counts
                # iterations never leaves: the last logged iteration is the next best.
                entry.update(step=trained, undated=True)
            by_step['loss' in entry, entry['step']] = entry
    return list(by_step.values())


def check_metric(entries: Iterable[dict], metric: str, name: str) -> None:
    """Makes sure that validations hold a metric.

    Raises:
        DistillationError: If one does not.
    """
    for entry in entries:
        if 'loss' not in entry and metric not in entry and (names := entry.keys() - BESIDES):
            raise DistillationError(
                f'--metric {metric}: {name} logs no such metric, but {", ".join(sorted(names))}.'
            )


def logger_options(cfg: Config) -> dict:
    """Options of the config's ``LoggerHook``."""
    return (cfg.get('default_hooks') or {}).get('logger') or {}


def last_step(cfg: Config) -> int | None:
    """The step of the validation that a training ends with: an iteration, or an epoch.

    None if it cannot be told from the config, as where epochs are counted and validations are
    dated by iterations.
    """
    train_cfg = cfg.get('train_cfg') or {}
    if 'max_iters' in train_cfg:
        return train_cfg['max_iters']
    by_epoch = logger_options(cfg).get('log_metric_by_epoch', True)
    return train_cfg.get('max_epochs') if by_epoch else None


def is_last(entry: dict, cfg: Config) -> bool:
    """Whether a validation is the one at the end of the training."""
    last = last_step(cfg)
    if last is None:
        return False
    if entry.get('undated'):  # and counted by iterations that were logged
        return entry['step'] > last - logger_options(cfg).get('interval', 10)
    return entry['step'] == last


class Progress:
    """Tells how far a training is, from what is new in its log.

    Args:
        folder (Path): Work dir of the training. What it holds already is not told.
        name (str): What the training is called in messages.
        metric (str): Metric of the validations to tell.
        cfg (Config): The config, for the length of the training.
    """

    def __init__(self, folder: Path, name: str, metric: str, cfg: Config) -> None:
        self.folder = folder
        self.name = name
        self.metric = metric
        train_cfg = cfg.get('train_cfg') or {}
        self.max_iters = train_cfg.get('max_iters')
        self.max_epochs = train_cfg.get('max_epochs')
        self.trained = 0
        self.read = {path: path.stat().st_size for path in folder.glob(SCALARS)}

    def __iter__(self) -> Iterator[str]:
        """Messages on what was logged since the last time."""
        for path in sorted(self.folder.glob(SCALARS)):
            with path.open('rb') as file:
                file.seek(self.read.get(path, 0))
                # A line that is still being written is read when it is complete.
                new, newline, _ = file.read().rpartition(b'\n')
            self.read[path] = self.read.get(path, 0) + len(new) + len(newline)
            for entry in parse_lines(new.splitlines()):
                check_metric([entry], self.metric, self.name)
                if message := self.message(entry):
                    yield message

    def message(self, entry: dict) -> str | None:
        """What an entry of the log is worth telling, if anything."""
        if 'loss' in entry:
            self.trained = entry['step']
            where = f'iteration {entry["step"]}'
            if self.max_iters:
                where += f' of {self.max_iters}'
            if self.max_epochs and 'epoch' in entry:
                where = f'epoch {entry["epoch"]} of {self.max_epochs}, {where}'
            return f'{where}{self.eta(entry)}  loss {entry["loss"]:.4f}'
        if self.max_epochs and self.trained and entry['step']:
            self.max_iters = round(self.trained / entry['step'] * self.max_epochs)
        if self.metric in entry:
            return f'evaluated: {self.metric} {entry[self.metric]:.4f}'
        return None

    def eta(self, entry: dict) -> str:
        """Time left for training, once the number of iterations is known."""
        if not self.max_iters or 'time' not in entry:
            return ''
        seconds = (self.max_iters - entry['step']) * entry['time']
        return f'  eta {timedelta(seconds=max(round(seconds), 0))}'
