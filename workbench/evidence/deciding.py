"""From pairs to a word: is the challenger better, worse, as good, or is it undecided? Sound however often one looks.

Challenger k of a champion may err to either side with a chance of 5 % / (k (k + 1)): 2.5 % for the first, 5 % for all
together, however many come (alpha spending as of Foster and Stine 2008, Journal of the Royal Statistical Society B 70:429;
each needs pairs that no earlier one was judged on, else it may have been made by them). Half of it goes to the first look,
whose number of pairs was settled before there were any: a Student's interval. The other half goes to all later looks, which
are taken when the pairs so far suggest it: theirs is a confidence sequence for a mean of unknown variance, which holds for
all numbers of pairs at once (the Gaussian mixture of Wang and Ramdas 2025, "Anytime-valid t-tests and confidence sequences
for Gaussian means with unknown variance", Sequential Analysis, after Lai 1976). Spending the level look by look instead gave
2.8 % where 2.5 % was promised, because one comes back when it is about to be significant.

Seeds are always drawn at random. Prompts are (random effects) where there are at least `PROMPTS_LIKE` of them; with fewer the
interval is about the mean over just these prompts, which are then fixed. A seed that is used with several prompts counts as
one draw, because the same noise may favour the same side in all of them: of one seed for all prompts nothing can be told, and
two tell little. Variances between prompts and between seeds are added. *As good* is the two one-sided tests of Schuirmann
(1987, Journal of Pharmacokinetics 15:657). How often it errs, and what it finds: experiments/benchmarks/deciding.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from workbench.errors import BadPairs

from .comparing import additive

if TYPE_CHECKING:
    import pandas as pd

Word = Literal["better", "worse", "as_good", "undecided"]
Scope = Literal["these prompts", "prompts like these"]
PER_CHAMPION = 0.05  # chance that any of its challengers is wrongly called better; half of it is the first one's
PROMPTS_LIKE = 8  # prompts from which a verdict is about prompts like these
SURE_OF_EQUAL = 8  # pairs from which differences that are all 0 say something: they have no spread to measure by
MARGIN = 2.0  # points of sharpness within which two settings are as good
PRIOR = 1.0  # variance of the lead that the sequence is tuned to, in variances of a pair
MOST = 10_000  # pairs beyond which nobody will go
COLUMNS = ("prompt", "seed", "champion", "challenger")


@dataclass(frozen=True)
class Decision:
    """What pairs say about the mean difference, challenger minus champion, in points.

    Attributes:
        word: "better" (the interval lies above 0, however little), "worse" (below 0), "as_good" (it holds 0 and lies within
            -+ `margin`), "undecided".
        mean: of the differences, every prompt counting the same; NaN without a pair.
        low, high: the interval, infinite where the pairs do not suffice to estimate one.
        level: chance that it lies wholly above the truth; the same for below. At a second look or later: that this ever
            happens at one of them.
        scope: what the mean is over: "these prompts", or "prompts like these" (from `PROMPTS_LIKE` prompts on).
        more: about how many more pairs of these prompts (more seeds) decide, at the next look and if mean and spread stay
            what they are; None where it is decided, not known, or more than `MOST`: then more prompts are what it takes.
        pairs, prompts, seeds: how many.
        looks, challengers, margin: as given.
    """

    word: Word
    mean: float
    low: float
    high: float
    level: float
    scope: Scope
    more: int | None
    pairs: int
    prompts: int
    seeds: int
    looks: int
    challengers: int
    margin: float


@dataclass(frozen=True)
class _Part:
    """A part of the variance of the mean, estimated with `df` degrees of freedom. With more seeds of the same prompts, only
    `noise` of it gets less; `grows`: and the degrees of freedom more."""

    variance: float
    df: float
    noise: float
    grows: bool

    def with_more(self, scale: float) -> _Part:
        df = (self.df + 1) * scale - 1 if self.grows else self.df
        return _Part(self.variance - self.noise * (1 - 1 / scale), df, self.noise / scale, self.grows)


@dataclass(frozen=True)
class _Estimate:
    mean: float
    parts: tuple[_Part, ...]


def decide(pairs: pd.DataFrame, *, looks: int = 1, challengers: int = 1, margin: float = MARGIN) -> Decision:
    """Whether the challenger is better than the champion, by pairs of equal prompt and seed.

    Args:
        pairs: one row a pair, of columns prompt, seed, champion, challenger; the last two are sharpness in points.
        looks: the how-manieth look at this duel this is, from 1. Looking again at the same pairs is no new look.
        challengers: the how-manieth challenger of this champion it is, from 1.
        margin: points within which two settings are as good, above 0.

    Raises `BadPairs` (a `ValueError`) for what cannot be pairs: a column missing, a number that is none, a pair given twice.
    """
    prompts, seeds, differences = _checked(pairs)
    for name, count in (("looks", looks), ("challengers", challengers)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= 10**9:
            raise BadPairs(f"{name} = {count!r} is not allowed; it is a whole number that counts from 1.")
    if isinstance(margin, bool) or not isinstance(margin, float | int | np.number) or not 0 < margin < math.inf:
        raise BadPairs(f"margin = {margin!r} is not allowed; give points of sharpness above 0, such as {MARGIN:g}.")
    scope: Scope = "prompts like these" if len(set(prompts)) >= PROMPTS_LIKE else "these prompts"
    found = _estimate(prompts, seeds, differences, scope)
    alpha = level(challengers)
    half = math.inf if found is None else _half_width(found, alpha, looks > 1)
    mean = float(differences.mean()) if found is None and len(differences) else found.mean if found else math.nan
    low, high = mean - half if half < math.inf else -math.inf, mean + half if half < math.inf else math.inf
    word = _word(low, high, margin)
    more = _more(found, differences, alpha, margin) if word == "undecided" else None
    return Decision(
        word, mean, low, high, alpha, scope, more, len(differences), len(set(prompts)), len(set(seeds)),
        int(looks), int(challengers), float(margin),
    )  # fmt: skip


def level(challengers: int) -> float:
    """The chance of an error to one side that a look at challenger `challengers` may spend: the first look as much as all
    later ones together."""
    return PER_CHAMPION / (challengers * (challengers + 1)) / 2


def _word(low: float, high: float, margin: float) -> Word:
    if low > 0:
        return "better"
    if high < 0:
        return "worse"
    return "as_good" if -margin <= low and high <= margin else "undecided"


def _checked(pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(prompt, seed, challenger minus champion) of each pair, the first two as numbers from 0."""
    import pandas as pd

    if not isinstance(pairs, pd.DataFrame):
        raise BadPairs(f"the pairs are no DataFrame but {type(pairs).__name__}; it needs columns {', '.join(COLUMNS)}.")
    if missing := [name for name in COLUMNS if name not in pairs.columns]:
        raise BadPairs(f"the pairs have no column {missing[0]}; they need {', '.join(COLUMNS)}.")
    try:
        sides = np.array([pairs[name].astype(float) for name in ("champion", "challenger")], float)
    except (TypeError, ValueError) as error:
        raise BadPairs(f"a sharpness of the pairs is no number ({error}); leave out pairs without a score.") from None
    try:
        prompts, seeds = (pd.factorize(pairs[name])[0] for name in ("prompt", "seed"))  # -1: missing
    except TypeError as error:
        raise BadPairs(f"a prompt or seed of the pairs cannot be compared ({error}); give texts or numbers.") from None
    if not np.isfinite(sides).all() or min(prompts.min(initial=0), seeds.min(initial=0)) < 0:
        raise BadPairs("a pair has a sharpness, a prompt or a seed that is missing; leave out pairs without a score.")
    if len(set(zip(prompts.tolist(), seeds.tolist(), strict=True))) < len(pairs):
        first = pairs[pairs.duplicated(["prompt", "seed"])].iloc[0]
        raise BadPairs(
            f"prompt {first['prompt']!r:.40} with seed {first['seed']} is given twice; give every pair once."
        )
    return prompts, seeds, sides[1] - sides[0]


def _estimate(prompts: np.ndarray, seeds: np.ndarray, differences: np.ndarray, scope: Scope) -> _Estimate | None:
    """The mean over prompts and how sure it is; None where the pairs cannot tell: too few, or one seed for all prompts, whose
    noise may favour one side in all of them."""
    n = len(differences)
    if n < 2 or (n < SURE_OF_EQUAL and not differences.any()):
        return None
    size = np.bincount(prompts)
    means = np.bincount(prompts, differences) / size
    by_seed = _between_seeds(prompts, seeds, differences)
    if by_seed is None:
        return None
    parts = by_seed
    if scope != "these prompts" or size.min() == 1:
        # one pair a prompt: what prompts differ by is in the spread of fixed ones, too, which makes it wider, not wrong
        whole, count = float(means.var(ddof=1)) / len(size), len(size)
        within = np.bincount(prompts, (differences - means[prompts]) ** 2) / np.maximum(size - 1, 1) / size
        noise = whole if scope == "these prompts" else min(whole, float(within.mean()) / count)
        parts = [_Part(whole, count - 1, noise, False), *(by_seed if len(set(seeds)) < n else [])]
    return _Estimate(float(means.mean()), tuple(parts))


def _between_seeds(prompts: np.ndarray, seeds: np.ndarray, differences: np.ndarray) -> list[_Part] | None:
    """What seeds add to the variance of the mean over fixed prompts: a part for every set of seeds that share prompts.

    None where prompts share one seed only. A set's part is the variance of its seeds' effects, fitted beside those of the
    prompts, times the sum of the squares of what they weigh in the mean.
    """
    size = np.bincount(prompts)
    load = np.bincount(seeds, 1 / (len(size) * size[prompts]))
    group = np.zeros(len(load)) if len(size) * len(load) == len(seeds) else _connected(prompts, seeds)
    parts = []
    for number in np.unique(group):
        inside, own = group[seeds] == number, np.flatnonzero(group == number)
        if len(own) < 2:
            if inside.sum() > 1:
                return None
            continue
        table = np.full((len(size), len(load)), np.nan)
        table[prompts[inside], seeds[inside]] = differences[inside]
        _, effects = additive(table[np.unique(prompts[inside])][:, own])
        variance = float(effects.var(ddof=1) * (load[own] ** 2).sum())
        parts.append(_Part(variance, len(own) - 1, variance, True))
    return parts


def _connected(prompts: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """A number for each seed, which is the same for seeds that share a prompt, or are linked by others that do."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(seeds.max()) + 1
    whole = count + int(prompts.max()) + 1
    edges = coo_array((np.ones(len(seeds)), (seeds, count + prompts)), shape=(whole, whole))
    return connected_components(edges, directed=False)[1][:count]


def _half_width(found: _Estimate, alpha: float, again: bool) -> float:
    """Half of the interval that errs to one side with a chance of `alpha`; `again`: for any number of pairs at once.

    Each part has the factor of its own degrees of freedom, weighed by its variance (Cochran and Cox 1950, Experimental
    Designs, 4.14: never too narrow, as Satterthwaite's is where a part has one degree).
    """
    variance = math.fsum(part.variance for part in found.parts)
    if not variance:
        return 0.0
    factor = math.fsum(
        part.variance / variance * _factor(part.df, alpha, again) for part in found.parts if part.variance
    )
    return factor * math.sqrt(variance)


def _factor(df: float, alpha: float, again: bool) -> float:
    from scipy.special import stdtrit

    if not again:
        return -float(stdtrit(df, alpha))
    # the t at which the mixture of likelihood ratios reaches 1 / (2 alpha), with as many pairs as there are degrees + 1
    count = df + 1
    wide = 1 + count * PRIOR
    ratio = (math.sqrt(wide) / (2 * alpha)) ** (2 / count)
    return math.sqrt(df * (ratio - 1) / (1 - ratio / wide)) if ratio < wide else math.inf


def _more(found: _Estimate | None, differences: np.ndarray, alpha: float, margin: float) -> int | None:
    n = len(differences)
    if found is None:
        return SURE_OF_EQUAL - n if 1 < n < SURE_OF_EQUAL and not differences.any() else None
    # it is better or worse, or as good, as soon as the interval is as narrow as that
    enough = max(abs(found.mean), margin - abs(found.mean))

    def decided(count: int) -> bool:
        parts = tuple(part.with_more(count / n) for part in found.parts)
        return _half_width(_Estimate(found.mean, parts), alpha, True) < enough

    low, high = n, MOST
    if not decided(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high - n
