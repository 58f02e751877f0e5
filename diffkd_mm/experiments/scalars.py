"""The scalars that MMEngine's ``LocalVisBackend`` logs of a training, one JSON a line."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

SCALARS = '*/vis_data/scalars.json'  # one for each time that a training was started or resumed


def read_scalars(folder: Path) -> list[dict]:
    """The logged scalars of a run; those of a resumed part replace what they repeat."""
    by_step = {}
    for file in sorted(folder.glob(SCALARS)):
        trained = 0
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if 'loss' in entry:
                trained = entry['step']
            elif entry['step'] == 0:
                # MMEngine's default dates a validation by the epoch, which a training that counts
                # iterations never leaves: the last logged iteration is the next best.
                entry['step'] = trained
            by_step['loss' in entry, entry['step']] = entry
    return list(by_step.values())


class Progress:
    """Tells how far a training is, from what is new in its log.

    Args:
        folder (Path): Work dir of the training. What it holds already is not told.
        metric (str): Metric of the validation to tell.
        train_cfg (dict): The config's ``train_cfg``, for the length of the training.
    """

    def __init__(self, folder: Path, metric: str, train_cfg: dict) -> None:
        self.folder = folder
        self.metric = metric
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
            for line in new.splitlines():
                if message := self.message(json.loads(line)):
                    yield message

    def message(self, entry: dict) -> str | None:
        """What an entry of the log is worth telling, if anything."""
        if 'loss' in entry:
            self.trained = entry['step']
            of = f' of {self.max_iters}' if self.max_iters else ''
            epoch = f'epoch {entry["epoch"]} of {self.max_epochs}, ' if self.max_epochs else ''
            return (
                f'{epoch}iteration {entry["step"]}{of}{self.eta(entry)}  loss {entry["loss"]:.4f}'
            )
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
