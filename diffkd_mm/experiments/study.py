"""Decisions of a comparison: the best value of the grid by config, and contrasts between arms."""

import statistics
from pathlib import Path
from typing import NamedTuple

from diffkd_mm.errors import DistillationError

from .intervals import Interval, mean_interval
from .results import Summary
from .runs import Arm


def tunable(arms: list[Arm]) -> list[Arm]:
    """The arms of configs that the grid gives more than one of."""
    configs = [arm.config for arm in arms]
    return [arm for arm in arms if configs.count(arm.config) > 1]


def pick(arms: list[Arm], tuning: list[Summary]) -> list[Arm]:
    """Of every config the arm with the best mean validation; the first of equal ones.

    Args:
        arms (list[Arm]): All arms.
        tuning (list[Summary]): Of the tunable ones, with the seeds for tuning. Arms of which a run
            failed, as it does when the loss becomes NaN, are no candidates.

    Returns:
        list[Arm]: One arm per config, in the configs' order.

    Raises:
        DistillationError: If no arm of a config is a candidate.
    """
    means = {x.arm: statistics.mean(x.final()) for x in tuning if x.results and not x.missing}
    by_config: dict[Path, list[Arm]] = {}
    for arm in arms:
        by_config.setdefault(arm.config, []).append(arm)
    picked = []
    for config, found in by_config.items():
        # Whatever is not a number does not equal itself.
        candidates = [arm for arm in found if arm in means and means[arm] == means[arm]]
        candidates = candidates if len(found) > 1 else found
        if not candidates:
            raise DistillationError(f'{config.stem}: a run failed at every value of the grid.')
        picked.append(max(candidates, key=lambda arm: means.get(arm, 0)))
    return picked


class Contrast(NamedTuple):
    """A difference between two arms, paired by seed.

    Attributes:
        first (str): Name of the one arm.
        second (str): Name of the other, which is subtracted.
        differences (dict[int, float]): By seed, in percent points.
        interval (Interval, optional): Mean and 95 % interval; None without common seeds.
    """

    first: str
    second: str
    differences: dict[int, float]
    interval: Interval | None


def find(arms: list[Arm], name: str, option: str) -> Arm:
    """The arm that is called so, by its name, or by its config's if that is enough.

    Args:
        arms (list[Arm]): The arms.
        name (str): What a user wrote.
        option (str): Where.

    Raises:
        DistillationError: If there is no or more than one such arm.
    """
    exact = [arm for arm in arms if arm.name == name]
    found = exact or [arm for arm in arms if arm.config.stem == name]
    if len(found) != 1:
        names = ', '.join(arm.name for arm in found or arms)
        raise DistillationError(f'{option} {name}: name one of {names}.')
    return found[0]


def contrast(summaries: list[Summary], first: str, second: str, split: str) -> Contrast:
    """The difference between two arms on a split."""
    by_arm = {summary.arm: summary for summary in summaries}
    one, other = (by_arm[find(list(by_arm), name, '--contrast')] for name in (first, second))
    ours, theirs = (dict(zip(x.seeds, x.final(split))) for x in (one, other))
    differences = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
    interval = mean_interval(list(differences.values())) if differences else None
    return Contrast(one.name, other.name, differences, interval)
