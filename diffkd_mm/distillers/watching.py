"""Warnings of points that teach nothing, or drown what the student learns by itself."""

import logging
from collections.abc import Iterable, Mapping

import numpy as np
from mmengine.logging import MessageHub, print_log

from .point import DistillationPoint

# A window is a twentieth of the training, but within these limits, in iterations.
SHORTEST, LONGEST = 50, 500
# Windows that a point is given before it is judged, and that "for long" means.
PATIENCE = 4
FALLEN = 0.98  # of what it was at first
TENFOLD = 10.0


class LossWatch:
    """Looks at what a training has logged and warns, of each kind once per point.

    Everything is read from MMEngine's message hub, which has a number for every iteration, those
    before a resumption included: nothing is computed for it, and no GPU waited for. Whether a loss
    falls is asked without the factors that change by themselves, those of ``schedule`` and
    ``balance``; whether it outweighs the student's own, with them: tenfold, or where a balance has
    a ratio above 1, ten times that ratio.
    """

    def __init__(self) -> None:
        self._warned: set[tuple[str, str]] = set()

    def look(self, own: Iterable[str], points: Mapping[str, DistillationPoint]) -> None:
        """Looks at the losses, once in a window of iterations.

        Args:
            own (Iterable[str]): Names of the student's own losses.
            points (Mapping[str, DistillationPoint]): The points by their names.
        """
        hub = MessageHub.get_current_instance()
        iteration, last = hub.get_info('iter'), hub.get_info('max_iters')
        if not iteration or not last:
            return
        window = min(LONGEST, max(SHORTEST, last // 20))
        if iteration % window or iteration < PATIENCE * window:
            return
        students = sum((_windows(name, window) for name in own), np.zeros(PATIENCE))
        for name, point in points.items():
            self._look_if_it_falls(name, students.mean(), window)
            self._look_if_it_outweighs(name, point, students, window)

    def _look_if_it_falls(self, name: str, students: float, window: int) -> None:
        values = _values(f'{name}.loss_kd')
        for factor in ('weight', 'balance'):
            factors = _values(f'{name}.{factor}')
            if len(factors):
                values, factors = values[-len(factors) :], factors[-len(values) :]
                values = values[factors > 0] / factors[factors > 0]
        if len(values) < PATIENCE * window:
            return
        first, last = values[:window].mean(), values[-window:].mean()
        if first > 0 and last > FALLEN * first:
            self._warn(
                name,
                'flat',
                f'its loss_kd does not fall: {first:.4g} over its first {window} iterations, '
                f'{last:.4g} over the last {window}, when the losses of the student itself were '
                f"{students:.4g}. Is the teacher's checkpoint the right one? If so, raise its "
                'loss_weight where it is small beside those losses, or have it found by '
                "balance=dict(ratio=10.0), and set standardize='channel' in its connector where "
                "the teacher's values are far from unit variance",
            )

    def _look_if_it_outweighs(
        self, name: str, point: DistillationPoint, students: np.ndarray, window: int
    ) -> None:
        losses = {key: _windows(f'{name}.{key}', window) for key in point.losses}
        total = sum(losses.values())
        wanted = 1.0 if point.balance is None else max(point.balance.ratio, 1.0)
        if (students > 0).all() and (total > TENFOLD * wanted * students).all():
            parts = ', '.join(f'{key} {x.mean():.4g}' for key, x in losses.items())
            advice = 'Lower its loss_weight, or have it found by balance=dict(ratio=10.0)'
            if point.balance is not None:
                advice = 'Lower the ratio of its balance'
            self._warn(
                name,
                'heavy',
                f'over the last {PATIENCE * window} iterations its losses ({parts}) were '
                f'{total.mean() / students.mean():.0f} times those of the student itself '
                f'({students.mean():.4g}), which hardly count beside them. '
                f"{advice}; where the teacher's values are large, standardize='scale' in its "
                'connector makes a weight carry over',
            )

    def _warn(self, name: str, kind: str, message: str) -> None:
        if (name, kind) in self._warned:
            return
        self._warned.add((name, kind))
        print_log(
            f'point {name!r}: {message}. (Said once; watch=False of the distiller leaves it out.)',
            logger='current',
            level=logging.WARNING,
        )


def _values(name: str) -> np.ndarray:
    """What was logged of a loss, a number per iteration; nothing of one that is not."""
    scalars = MessageHub.get_current_instance().log_scalars
    key = f'train/{name}'
    return scalars[key].data[0] if key in scalars else np.empty(0)


def _windows(name: str, window: int) -> np.ndarray:
    """Means of a loss over the last windows; 0 where it was not logged long enough."""
    values = _values(name)[-PATIENCE * window :]
    if len(values) < PATIENCE * window:
        return np.zeros(PATIENCE)
    return values.reshape(PATIENCE, window).mean(axis=1)
