"""95 % intervals: of a mean by Student's t, of a share by Wilson's score, of the difference of two shares by Newcombe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
Z = 1.959964  # of a two-sided 95 % interval of the normal distribution


def half_width(sd: float, count: int) -> float:
    """Half the width of the 95 % interval of a mean of `count` >= 2 numbers whose sample standard deviation is `sd`."""
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, (1 + LEVEL) / 2)) * sd / math.sqrt(count)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """(mean, low, high): the mean of the numbers in (n,) that are not NaN, with its 95 % interval by Student's t.

    The ends are NaN for n < 2, the mean for n = 0.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float(values[0]) if len(values) else math.nan, math.nan, math.nan
    mean, half = float(values.mean()), half_width(float(values.std(ddof=1)), len(values))
    return mean, mean - half, mean + half


def wilson(agreed: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of `agreed` in `n` >= 1 (Wilson 1927), which holds for small n, too."""
    share, z = agreed / n, Z * Z / n
    middle, half = share + z / 2, Z * math.sqrt(share * (1 - share) / n + z / (4 * n))
    return max(0.0, (middle - half) / (1 + z)), min(1.0, (middle + half) / (1 + z))


@dataclass(frozen=True)
class SharesApart:
    """How much larger the second of two shares is: `difference`, with its 95 % interval `low` to `high`, each -1 to 1."""

    difference: float
    low: float
    high: float


def shares_apart(one: tuple[int, int], two: tuple[int, int]) -> SharesApart:
    """Of two shares, each (how many, of how many >= 1), the second minus the first, by Wilson's intervals of both (Newcombe
    1998, Statistics in Medicine 17:873, method 10)."""
    first, second = one[0] / one[1], two[0] / two[1]
    (low_1, high_1), (low_2, high_2) = wilson(*one), wilson(*two)
    apart = second - first
    return SharesApart(
        apart,
        apart - math.hypot(second - low_2, high_1 - first),
        apart + math.hypot(high_2 - second, first - low_1),
    )
