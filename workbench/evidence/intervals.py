"""95 % intervals: of a mean by Student's t, of a share by Wilson's score."""

from __future__ import annotations

import math

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
