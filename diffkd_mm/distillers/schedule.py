"""Weights over time: when in a training a point's losses count, and how much."""

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.logging import MessageHub, print_log

from ..errors import DistillationError
from ..options import NonNegativeFloat, PositiveFloat, check_options


class Schedule:
    """The factor of all losses of a point: 0, up to 1, down to 0 again.

    It is 0 before ``start`` and from ``stop`` on, and 1 between them but for two linear ramps. Time
    is that of the training, as MMEngine counts it: an iteration is a batch, also where the
    gradients of several are accumulated, and a resumed training goes on where it was. Epochs count
    in fractions, so that a ramp changes within them. Outside of a training the factor is 1.

    Args:
        start (float): When the losses begin to count. Defaults to 0.
        stop (float, optional): When they are over. Defaults to None: never.
        ramp_up (float): How long after ``start`` the factor takes to 1. Defaults to 0.
        ramp_down (float): How long before ``stop`` it begins to fall. Defaults to 0.
        by_epoch (bool): Whether these are epochs or iterations. Defaults to True. A training by
            iterations is a single epoch.

    Raises:
        DistillationError: If the ramps do not fit between ``start`` and ``stop``.
    """

    def __init__(
        self,
        start: NonNegativeFloat = 0,
        stop: PositiveFloat | None = None,
        ramp_up: NonNegativeFloat = 0,
        ramp_down: NonNegativeFloat = 0,
        by_epoch: bool = True,
    ) -> None:
        if stop is None and ramp_down:
            raise DistillationError(f'ramp_down={ramp_down} ends at stop, which is missing.')
        if stop is not None and (start >= stop or start + ramp_up + ramp_down > stop):
            raise DistillationError(
                f'start={start}, ramp_up={ramp_up} and ramp_down={ramp_down} do not fit before '
                f'stop={stop}.'
            )
        self.start = start
        self.stop = stop
        self.ramp_up = ramp_up
        self.ramp_down = ramp_down
        self.by_epoch = by_epoch
        self._is_compared = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any], where: str) -> 'Schedule':
        """Builds a schedule.

        Args:
            options (Mapping): Its options.
            where (str): What to call the place in the message.

        Raises:
            DistillationError: If an option is wrong; names the place.
        """
        check_options(options, cls, where)
        try:
            return cls(**options)
        except DistillationError as error:
            raise DistillationError(f'{where}: {error}') from error

    def at(self, time: float) -> float:
        """The factor at a time, in epochs or iterations: a number from 0 to 1."""
        if time < self.start or (self.stop is not None and time >= self.stop):
            return 0.0
        up = (time - self.start) / self.ramp_up if self.ramp_up else 1.0
        down = (self.stop - time) / self.ramp_down if self.ramp_down else 1.0
        return min(up, down, 1.0)

    def now(self, point: str) -> float:
        """The factor at this iteration of the training that is under way.

        Args:
            point (str): The point's name, for a warning if the training ends before the schedule.
        """
        hub = MessageHub.get_current_instance()
        iteration, last = hub.get_info('iter'), hub.get_info('max_iters')
        if iteration is None or last is None:
            return 1.0
        # As many in each; of a training by iterations, all.
        unit = last / hub.get_info('max_epochs', 1) if self.by_epoch else 1
        self._compare_with_training(point, last / unit)
        return self.at(iteration / unit)

    def _compare_with_training(self, point: str, end: float) -> None:
        """Warns, once, of what lies behind the end of the training."""
        if self._is_compared:
            return
        self._is_compared = True
        late = {'start': self.start + self.ramp_up, 'stop': self.stop or 0}
        late = {key: getattr(self, key) for key, time in late.items() if time > end}
        if late:
            unit = 'epochs' if self.by_epoch else 'iterations'
            hint = ' (one by iterations is a single epoch: set by_epoch=False)'
            print_log(
                f'point {point!r}: schedule has {", ".join(f"{k}={v}" for k, v in late.items())}, '
                f'and this training has {end:g} {unit}{hint if self.by_epoch else ""}.',
                logger='current',
                level=logging.WARNING,
            )
