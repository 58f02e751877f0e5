"""How much of a training is spent waiting for data, and what would shorten it."""

import time

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..registry import HOOKS

_ACCEPTABLE = 0.1


@HOOKS.register_module()
class DataWaitHook(Hook):
    """Says at a training's end which share of its iterations was spent waiting for data.

    Waiting is the time between iterations, validation and checkpoints left out; the first batch of
    an epoch counts. On a GPU it is at most as much as said, since the GPU may still be at work on
    the last iteration. If it is more than 10 %, the message says what to change. Of several
    processes the first one's is told.
    """

    priority = 'LOWEST'  # what the other hooks do after an iteration is no waiting

    def __init__(self) -> None:
        self._since: float | None = None
        self._waited = self._worked = 0.0

    @property
    def share(self) -> float | None:
        """Share of the time, from 0 to 1; None before the first iteration."""
        total = self._waited + self._worked
        return self._waited / total if total else None

    def before_train_epoch(self, runner: Runner) -> None:
        self._since = time.perf_counter()

    def after_val(self, runner: Runner) -> None:
        self._since = time.perf_counter()

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        self._waited += self._lap()

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        self._worked += self._lap()

    def after_train(self, runner: Runner) -> None:
        if self.share is None:
            return
        line = f'{100 * self.share:.0f} % of the iterations was spent waiting for data.'
        if self.share > _ACCEPTABLE:
            line += f' {advice(runner.train_dataloader)}'
        print_log(line, logger='current')

    def _lap(self) -> float:
        since, self._since = self._since, time.perf_counter()
        return 0.0 if since is None else self._since - since


def advice(dataloader: DataLoader) -> str:
    """What to change in a training's data loader so that it is waited for less."""
    workers = dataloader.num_workers
    changes = [f'more than num_workers={workers}, as long as there are processor cores for them']
    if workers and not dataloader.persistent_workers:
        changes.append('persistent_workers=True, if epochs are short')
    if workers and dataloader.prefetch_factor == 2:
        changes.append('prefetch_factor=4, if it comes in bursts')
    return (
        f'Shorten it in train_dataloader: {"; ".join(changes)}. Beyond that, keep images in the '
        'size that they are trained in, on a local disk.'
    )
