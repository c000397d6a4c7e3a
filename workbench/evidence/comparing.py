"""Many settings in equal blocks: which are not told apart from the best, and what their means are worth.

The best of many looks better than it is (the winner's curse). Two remedies: differences have simultaneous intervals, which
hold for whichever pair one looks at (Tukey's studentised range, for unequal numbers as of Kramer 1956, Biometrics 12:307),
and means are drawn towards their common mean by as much as their spread is noise (empirical Bayes; Morris 1983, Journal of
the American Statistical Association 78:47).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEVEL = 0.05  # chance that any of all the intervals of differences is wrong
FITS = 200  # rounds in which levels of blocks and settings are fitted by turns where numbers are missing


@dataclass(frozen=True)
class Comparison:
    """Settings compared within blocks.

    Attributes:
        means: (settings,) what each is, levels of blocks taken out, around the mean of all numbers; NaN: never measured.
        shrunken: (settings,) the same, drawn together by the share of their spread that is noise.
        counts: (settings,) numbers of each.
        sd: of one number, within its block.
        df: its degrees of freedom; 0: it could not be estimated, and `sd` is NaN.
    """

    means: np.ndarray
    shrunken: np.ndarray
    counts: np.ndarray
    sd: float
    df: int

    def half_width(self, one: int, two: int) -> float:
        """Half the simultaneous 95 % interval of the difference of two settings; NaN where it could not be estimated."""
        if not self.df or not (self.counts[one] and self.counts[two]):
            return math.nan
        apart = self.sd * math.sqrt((1 / self.counts[one] + 1 / self.counts[two]) / 2)
        return _studentised_range(int((self.counts > 0).sum()), self.df) * apart


def compare(values: np.ndarray, groups: np.ndarray | None = None) -> Comparison:
    """Compare settings by numbers (blocks, settings), NaN where there is none.

    `groups`: (blocks,) which of them share a prompt. What settings do differently from prompt to prompt is no noise where a
    prompt has several blocks: the comparison is about these prompts. Where each has one, it cannot be told from noise and
    counts as such.
    """
    there = ~np.isnan(values)
    counts = there.sum(0)
    grand = float(values[there].mean()) if there.any() else math.nan
    fitted, effects = additive(values)
    groups = np.arange(len(values)) if groups is None else groups
    rest, df = [], 0
    repeated = [group for group in np.unique(groups) if (groups == group).sum() > 1]
    for rows in [groups == group for group in repeated] if repeated else [np.ones(len(values), bool)]:
        part = values[rows]
        mine, _ = additive(part) if repeated else (fitted, effects)
        seen = ~np.isnan(part)
        if not seen.any():
            continue
        rest.append((part - mine)[seen])
        df += int(seen.sum()) - int(seen.any(1).sum()) - int(seen.any(0).sum()) + 1
    if df < 1:
        return Comparison(grand + effects, grand + effects, counts, math.nan, 0)
    sd = math.sqrt(math.fsum(float((part**2).sum()) for part in rest) / df)
    return Comparison(grand + effects, grand + _shrunken(effects, sd**2 / np.maximum(counts, 1)), counts, sd, df)


def additive(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a level of each block and an effect of each setting to numbers (blocks, settings), NaN where there is none, by
    least squares: (level + effect of every number, the effects (settings,), of mean 0)."""
    there = ~np.isnan(values)
    rows, columns = np.maximum(there.sum(1), 1), np.maximum(there.sum(0), 1)
    filled = np.where(there, values, 0.0)
    level, effect = np.zeros(len(values)), np.zeros(values.shape[1])
    for _ in range(1 if there.all() else FITS):
        level = np.where(there, filled - effect, 0.0).sum(1) / rows
        before, effect = effect, np.where(there, filled - level[:, None], 0.0).sum(0) / columns
        if np.abs(effect - before).max(initial=0) < 1e-12:
            break
    seen = there.any(0)
    effect = np.where(seen, effect, math.nan)
    middle = float(effect[seen].mean()) if seen.any() else 0.0
    return level[:, None] + effect, effect - middle


def _shrunken(effects: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Effects (settings,) of mean 0 with noise of these variances, drawn towards 0. The variance between settings is the
    one with which their spread is what is expected (Paule and Mandel 1982)."""
    from scipy.optimize import brentq

    seen = ~np.isnan(effects)
    found, noise, count = effects[seen], noise[seen], int(seen.sum())
    if count < 2:
        return effects

    def surplus(between: float) -> float:
        weights = 1 / (between + noise + 1e-12)
        middle = (weights * found).sum() / weights.sum()
        return float((weights * (found - middle) ** 2).sum()) - (count - 1)

    top = float(found.var(ddof=1)) + float(noise.max())
    between = 0.0 if surplus(0.0) <= 0 else brentq(surplus, 0.0, 10 * top)
    share = np.array((count - 3) / (count - 1) if count > 3 else 1.0) * noise / (between + noise + 1e-12)
    drawn = effects.copy()
    drawn[seen] = found * (1 - share)
    return drawn


@lru_cache(maxsize=64)
def _studentised_range(settings: int, df: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.isf(LEVEL, max(settings, 2), df))
