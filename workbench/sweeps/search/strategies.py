"""Which pictures of a grid to make next: all of them, a sample, a race, or a search for the Pareto front. Runs nothing.

Every strategy is a pure function of the records so far: `choose` plays the search again from its first round, and a
round is judged only when all its pictures have a record. So neither the order in which cells finish nor an
interruption changes what is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from workbench.errors import OptunaMissing, StrategyError

from .grid import Grid, Outcome, Results, Rounds, Standing, Winner, outcome, winner
from .pareto import front, pareto
from .racing import race, survey

__all__ = [
    "STRATEGIES", "Choice", "Grid", "OptunaMissing", "Outcome", "Standing", "Strategy", "StrategyError", "Winner", "choose",
    "front", "outcome", "winner",
]  # fmt: skip

Strategy = Literal["grid", "random", "race", "pareto"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
SHARE = 3  # without a budget a search may make a third of the grid's pictures


@dataclass(frozen=True)
class Choice:
    """What to do next. `cells`: to be run now, in any order; empty when the search is finished.

    `why`: one or two sentences. `states`: of every combination, in the grid's order. `notes`: what was done about a
    budget that did not fit.
    """

    cells: tuple[int, ...]
    why: str
    states: tuple[Standing, ...]
    notes: tuple[str, ...] = ()


def choose(strategy: str, grid: Grid, results: Results, *, budget: int | None = None, seed: int = 0) -> Choice:
    """The cells to run next. `results` has the cells finished so far, failed ones too; run again when more are.

    Args:
        budget: most pictures the search may make, those in `results` that it asked for included. None: all for
            `grid`, else a third of the grid's. More than the grid has is cut, and said in `notes`.
        seed: of everything that is drawn. Equal arguments give equal choices.

    Raises `StrategyError` for an unknown strategy or a budget below what the strategy needs, `OptunaMissing`.
    """
    if strategy not in STRATEGIES:
        raise StrategyError(f"there is no strategy '{strategy}'; use one of {', '.join(STRATEGIES)}.")
    budget, notes = _budget(strategy, grid, budget)
    rounds = {"grid": _grid, "random": _random, "race": race, "pareto": pareto}[strategy](grid, budget, seed)
    known: dict[int, Outcome] = {}
    cells, why, states = next(rounds)
    while cells and all(cell in results for cell in cells):
        known.update({cell: results[cell] for cell in cells})
        cells, why, states = rounds.send(known)
    rounds.close()
    same = {
        c: Standing("not chosen", f"gives the same pictures as {grid.label(twin)}") for c, twin in grid.same.items()
    }
    every = tuple((same | states)[c] for c in range(len(grid.combinations)))
    return Choice(tuple(cell for cell in cells if cell not in results), why, every, tuple(notes))


def _budget(strategy: str, grid: Grid, budget: int | None) -> tuple[int, list[str]]:
    """The pictures a search may make, and what to say of it."""
    size = len(grid) if strategy == "grid" else len(grid.distinct) * len(grid.distinct_blocks)
    need = min(size, _need(strategy, grid))
    if budget is None:
        return min(size, max(len(grid) // SHARE, need)), []
    if budget < need:
        raise StrategyError(
            f"budget = {budget} is too small for strategy '{strategy}' on {len(grid.combinations)} settings x "
            f"{len(grid.distinct_blocks)} prompts and seeds; it needs at least {need} pictures, or a smaller grid."
        )
    return min(budget, size), [f"budget = {budget} is more than there is; {size} pictures is all."] * (budget > size)


def _need(strategy: str, grid: Grid) -> int:
    if strategy == "grid":
        return len(grid)
    if strategy == "race":
        return survey(grid) + len(grid.distinct_blocks)
    return len(grid.distinct_blocks)  # one setting


def _grid(grid: Grid, budget: int, seed: int) -> Rounds:
    states = {c: Standing("contender", "every setting is run") for c in range(len(grid.combinations))}
    yield list(range(len(grid))), f"The whole grid: {len(grid)} pictures.", states
    yield [], f"Finished: all {len(grid)} pictures have a record.", states


def _random(grid: Grid, budget: int, seed: int) -> Rounds:
    """Whole combinations, so that they can be compared within blocks; a larger budget contains the smaller."""
    drawn = [grid.distinct[i] for i in np.random.default_rng(seed).permutation(len(grid.distinct))]
    chosen = sorted(drawn[: budget // len(grid.distinct_blocks)])
    states = {c: Standing("not chosen", "not drawn") for c in grid.distinct}
    states |= {c: Standing("contender", "drawn") for c in chosen}
    said = f"{len(chosen)} of {len(grid.combinations)} settings drawn with seed {seed}, each with every prompt and seed"
    yield sorted(cell for c in chosen for cell in grid.cells(c)), f"{said}.", states
    yield [], f"Finished: {said}.", states
