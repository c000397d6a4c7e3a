"""The grid of a search, what came out of its cells so far, and which setting leads. Runs nothing.

A *block* is one prompt with one seed. Every setting is tried on the same blocks, and settings are compared within blocks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeGuard

import numpy as np
from scipy.special import stdtrit

from workbench.runs import BLOCKING, AxisValue, Record, plain, repeated, same_pictures
from workbench.scores import MEASURES
from workbench.settings import Value

Combination = tuple[Value | tuple[Value, ...], ...]
"""A value of each axis; a tuple of values of an axis whose settings vary together."""


@dataclass(frozen=True)
class Grid:
    """All combinations of the axes' values x all blocks, numbered as a plan's cells: block * len(combinations) + combination.

    `keys`: the content key of each cell, or empty. Combinations with the same keys in all blocks give the same pictures, and
    only the first of them is searched; likewise of blocks.
    """

    names: tuple[str, ...]
    combinations: tuple[Combination, ...]
    blocks: tuple[tuple[str, int], ...]
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.keys and len(self.keys) != len(self):
            raise ValueError(
                f"a grid of {len(self)} cells was given {len(self.keys)} keys; give one for each, or none."
            )

    @classmethod
    def of(
        cls,
        axes: Mapping[str, Sequence[AxisValue]],
        prompts: Sequence[str],
        seeds: Sequence[int],
        keys: Iterable[str] = (),
    ) -> Grid:
        """The grid of a plan: `axes`, `prompts` and `seeds` of `Plan.resolved`, and `cell.key` of its cells."""
        blocks = tuple(itertools.product(prompts, seeds))
        columns = ([tuple(v) if isinstance(v, list) else v for v in values] for values in axes.values())
        return cls(tuple(axes), tuple(itertools.product(*columns)), blocks, tuple(keys))

    def __len__(self) -> int:
        """Number of cells."""
        return len(self.blocks) * len(self.combinations)

    def cell(self, combination: int, block: int) -> int:
        return block * len(self.combinations) + combination

    def cells(self, combination: int) -> list[int]:
        """The cells of a combination, one for each of the `distinct_blocks`."""
        return [self.cell(combination, block) for block in self.distinct_blocks]

    def label(self, combination: int) -> str:
        """`strength=0.35, weight=1`."""
        pairs = zip(self.names, self.combinations[combination], strict=True)
        return ", ".join(f"{name}={plain(value)}" for name, value in pairs) or "the only setting"

    @cached_property
    def distinct_blocks(self) -> list[int]:
        """The blocks, by number, without those that show the pictures of an earlier one: two prompts that read alike."""
        inner = len(self.combinations)
        keys = {
            block: dict(enumerate(self.keys[block * inner : (block + 1) * inner])) for block in range(len(self.blocks))
        }
        again = repeated(keys) if self.keys else {}
        return [block for block in range(len(self.blocks)) if block not in again]

    @cached_property
    def same(self) -> dict[int, int]:
        """{combination: the first one with the same keys in all blocks}."""
        if not self.keys:
            return {}
        keys = {
            c: {block: self.keys[cell] for block, cell in enumerate(self.cells(c))}
            for c in range(len(self.combinations))
        }
        return {later: first for first, *others in same_pictures(keys) for later in others}

    @property
    def distinct(self) -> list[int]:
        """The combinations that are worth running."""
        return [c for c in range(len(self.combinations)) if c not in self.same]

    @property
    def block_order(self) -> list[int]:
        """The blocks' numbers, with the prompts taking turns: the first few are not all of one prompt."""
        seen: dict[str, int] = {}
        turn = []
        for prompt, _ in self.blocks:
            turn.append(seen.get(prompt, 0))
            seen[prompt] = turn[-1] + 1
        return sorted(self.distinct_blocks, key=lambda block: turn[block])

    def codes(self) -> list[np.ndarray]:
        """For each axis of more than one value, the position of each combination's value on it, (combinations,) int.

        Numbers are in their own order, other values in the order they are listed.
        """
        found = []
        for column in self._columns():
            listed = list(dict.fromkeys(column))
            ordered = sorted(listed) if _numeric(listed) else listed
            number = {value: i for i, value in enumerate(ordered)}
            found.append(np.array([number[value] for value in column]))
        return found

    def ordered(self) -> list[bool]:
        """For each axis of more than one value, whether its values are numbers."""
        return [_numeric(column) for column in self._columns()]

    def _columns(self) -> list[Combination]:
        return [column for column in zip(*self.combinations, strict=True) if len(set(column)) > 1]


def _numeric(values: Iterable[object]) -> TypeGuard[list[float]]:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


@dataclass(frozen=True)
class Outcome:
    """What a search needs to know of a finished cell; for sharpness and fidelity higher is better.

    `blocked`: a guard fired that keeps the setting from being promoted. `key`: cells with equal keys show the same
    picture; empty: unknown.
    """

    sharpness: float | None
    fidelity: float | None = None
    seconds: float | None = None
    status: str = "done"
    blocked: bool = False
    key: str = ""

    @property
    def usable(self) -> bool:
        """Measured, and not fooled."""
        return self.sharpness is not None and not self.blocked


def outcome(record: Record, fidelity: str = "ssim") -> Outcome:
    """A cell's record as a search sees it; `fidelity` names one of `MEASURES`."""
    scores = record.get("scores") or {}
    value = scores.get(fidelity)
    sign = 1 if MEASURES[fidelity].higher_is_better else -1
    return Outcome(
        scores.get("sharpness"), None if value is None else sign * value, record.get("seconds"), record["status"],
        not BLOCKING.isdisjoint(scores.get("flags", ())), record.get("pixels_sha256", ""),
    )  # fmt: skip


class Standing(NamedTuple):
    """Where a combination stands: `contender`, `dropped` or `not chosen`, and why, in words."""

    state: Literal["contender", "dropped", "not chosen"]
    reason: str


Results = Mapping[int, Outcome]  # {cell: outcome}
# a search: out go the cells of a round (none: finished), why, and the states; in come the results of all rounds so far
Rounds = Generator[tuple[list[int], str, dict[int, Standing]], Results, None]


def spread(codes: Sequence[np.ndarray], combinations: int, blocks: int, count: int, seed: int) -> list[int]:
    """`count` cells that have every value, block, combination, and every pair of them about equally often.

    Greedy: each next cell is the one whose parts were seen least so far, ties by lot. More cells begin with the fewer.
    """
    axes = [*(np.tile(code, blocks) for code in codes), np.repeat(np.arange(blocks), combinations)]
    pairs = [a * (b.max() + 1) + b for a, b in itertools.combinations(axes, 2)]
    factors = [np.unique(f, return_inverse=True)[1] for f in (*axes, *pairs, np.tile(np.arange(combinations), blocks))]
    # seen so far, in units of an even share of each factor; the lot is below any difference of whole numbers
    score = np.random.default_rng(seed).permutation(combinations * blocks) / (combinations * blocks + 1)
    chosen = []
    for _ in range(min(count, combinations * blocks)):
        cell = int(np.argmin(score))
        chosen.append(cell)
        for factor in factors:
            score += (int(factor.max()) + 1) * (factor == factor[cell])
        score[cell] = np.inf
    return chosen


def losses(grid: Grid, known: Results) -> list[int]:
    """For each combination, its unusable pictures, in blocks where another one has a usable picture."""
    shape, blocks = len(grid.combinations), {*grid.distinct_blocks}
    fine = {cell // shape for cell, result in known.items() if result.usable}
    lost = [0] * shape
    for cell, result in known.items():
        lost[cell % shape] += not result.usable and cell // shape in fine & blocks
    return lost


class Winner(NamedTuple):
    """`mean`: sharpness over all blocks. `interval`: its 95 % confidence interval within blocks; None: not estimable.
    `n`: its usable pictures."""

    combination: Combination
    mean: float
    interval: tuple[float, float] | None
    n: int


def winner(grid: Grid, results: Results) -> Winner | None:
    """The sharpest of the combinations that are finished in all blocks with the fewest losses; None: nothing is usable.

    While none is finished: the sharpest of those with the most usable pictures.
    Levels of the blocks are estimated together with the combinations (two-way least squares) and taken out, so that a
    setting seen in easy blocks only is not ahead, and the interval (Student, n - 1) has no spread of blocks in it.
    """
    shape, blocks = len(grid.combinations), len(grid.blocks)
    values = np.full((shape, blocks), np.nan)
    for cell, result in results.items():
        if result.usable and cell // shape in grid.distinct_blocks:
            values[cell % shape, cell // shape] = result.sharpness
    has = ~np.isnan(values)
    if not has.any():
        return None
    n, filled = has.sum(1), np.where(has, values, 0.0)
    share = has / np.maximum(n, 1)[:, None]
    # normal equations of the block levels, the combinations' means eliminated; the minimal norm has levels of mean 0
    normal = np.diag(has.sum(0)) - has.T @ share
    levels = np.linalg.pinv(normal.astype(float), hermitian=True) @ (filled.sum(0) - share.T @ filled.sum(1))
    means = np.where(n > 0, (values - levels).sum(1, where=has) / np.maximum(n, 1), -np.inf)
    lost = losses(grid, results)
    whole = [all(cell in results for cell in grid.cells(c)) for c in range(shape)]
    best = min(np.flatnonzero(n), key=lambda c: (not whole[c], lost[c] if whole[c] else 0, -n[c], -means[c], c))
    others = has.sum(0)[has[best]]
    # a block where it stands alone takes its residual to 0
    freedom = (n[best] - 1) * float((1 - 1 / others).mean())
    interval = None
    if freedom > 0:
        residual = (values[best] - levels)[has[best]] - means[best]
        half = stdtrit(n[best] - 1, 0.975) * math.sqrt((residual**2).sum() / freedom / n[best])
        interval = (float(means[best] - half), float(means[best] + half))
    return Winner(grid.combinations[best], float(means[best]), interval, int(n[best]))
