"""Means of a few seeds and how far to trust them: Student's t."""

import math
import statistics
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and its two-sided confidence interval.

    Attributes:
        mean (float): The mean.
        low (float): Lower end; NaN for a single value.
        high (float): Upper end; NaN for a single value.
    """

    mean: float
    low: float
    high: float


def t_probability(t: float, freedom: int) -> float:
    """P(|T| ≤ t) of Student's t with a whole number of degrees of freedom.

    Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.7.3 and 26.7.4.
    """
    theta = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(theta) if odd else 1.0
    series = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        series += term
        term *= math.cos(theta) ** 2 * (k - 1) / k
    return 2 / math.pi * (theta + math.sin(theta) * series) if odd else math.sin(theta) * series


def t_quantile(freedom: int, level: float = 0.95) -> float:
    """The t that |T| stays below with probability ``level``, such as 4.303 for 2 and 0.95."""
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_probability(middle, freedom) < level else (low, middle)
    return high


def mean_interval(values: list[float], level: float = 0.95) -> Interval:
    """Mean of independent values and its interval; of differences by seed, the paired one."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = t_quantile(len(values) - 1, level) * error
    return Interval(mean, mean - half, mean + half)
