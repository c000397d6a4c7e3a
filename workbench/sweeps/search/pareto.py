"""strategy = "pareto": Optuna chooses settings that may be on the Pareto front of sharpness, fidelity and time.

Optuna only says what to try next; it runs nothing, writes nothing and says nothing.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from types import ModuleType

import numpy as np

from workbench.errors import OptunaMissing
from workbench.evidence import dominated

from .grid import Combination, Grid, Outcome, Results, Rounds, Standing, spread


def pareto(grid: Grid, budget: int, seed: int) -> Rounds:
    """Whole combinations, the first third spread, the others asked of Optuna's TPE in six batches."""
    optuna = _optuna()
    distinct, count = grid.distinct, budget // len(grid.distinct_blocks)
    codes = [code[distinct] for code in grid.codes()]
    first = [distinct[i] for i in spread(codes, len(distinct), 1, math.ceil(count / 3), seed)]
    batch, chosen = first, list(first)
    size = max(1, math.ceil((count - len(first)) / 6))
    states = {c: Standing("not chosen", "not asked for") for c in distinct}
    states |= {c: Standing("not chosen", "asked for, not finished") for c in batch}
    why = f"First round: {len(batch)} of {count} settings, spread over the grid."
    for number in itertools.count(2):
        known = yield sorted(cell for c in batch for cell in grid.cells(c)), why, states
        states |= _pareto_states(grid, known, chosen)
        batch = _ask(optuna, grid, known, chosen, min(size, count - len(chosen)), seed + 1009 * number)
        chosen += batch
        on = sum(state.state == "contender" for state in states.values())
        if not batch:
            said = f"Finished: {len(chosen)} of {len(grid.combinations)} settings run"
            yield [], f"{said}; {on} of them are on the Pareto front.", states
        states |= {c: Standing("not chosen", "asked for, not finished") for c in batch}
        why = f"Round {number}: {len(batch)} more settings asked of Optuna; {on} are on the Pareto front so far."


def _pareto_states(grid: Grid, known: Results, chosen: list[int]) -> dict[int, Standing]:
    points = objectives(grid, known)
    on = _non_dominated(points)
    unusable = Standing("dropped", "a picture failed, had no usable face or set off a guard")
    beaten = Standing("dropped", "another setting is at least as good in every objective")
    front = Standing("contender", "on the Pareto front")
    return {c: unusable if c not in points else front if c in on else beaten for c in chosen}


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError:
        raise OptunaMissing(
            "strategy 'pareto' needs Optuna, which is not installed; "
            'pip install "sdxl-face-workbench[search]", or use race, random or grid.'
        ) from None
    return optuna


def _ask(optuna: ModuleType, grid: Grid, known: Results, chosen: list[int], count: int, seed: int) -> list[int]:
    """`count` combinations not in `chosen`: what the sampler asks for, or the nearest to it that was not run yet.

    The study is built anew from the results (NSGA-II cannot be: it keeps its generations inside its own trials).
    """
    codes = np.array(grid.codes()).reshape(-1, len(grid.combinations))
    kinds = optuna.distributions
    ask = {
        str(i): kinds.IntDistribution(0, int(code.max()))
        if is_ordered
        else kinds.CategoricalDistribution(range(int(code.max()) + 1))
        for i, (code, is_ordered) in enumerate(zip(codes, grid.ordered(), strict=True))
    }
    free = [c for c in grid.distinct if c not in chosen]
    points = objectives(grid, known)
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna 4 calls these options experimental; no user can mend that
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True, constant_liar=True)
            width = len(next(iter(points.values()), (0.0,)))
            study = optuna.create_study(sampler=sampler, directions=["maximize"] * width)
            for c in chosen:
                values = {"values": points[c]} if c in points else {"state": optuna.trial.TrialState.FAIL}
                at = {str(i): int(code[c]) for i, code in enumerate(codes)}
                study.add_trial(optuna.trial.create_trial(params=at, distributions=ask, **values))
            asked = []
            while len(asked) < count and free:
                wanted = study.ask(ask).params
                apart = [
                    sum(_apart(wanted[str(i)], code[c], ask[str(i)]) for i, code in enumerate(codes)) for c in free
                ]
                asked.append(free.pop(int(np.argmin(apart))))
    finally:
        optuna.logging.set_verbosity(loud)
    return asked


def _apart(wanted: int, value: int, distribution: object) -> float:
    """Distance on one axis whose range is 1."""
    span = getattr(distribution, "high", None)
    return float(wanted != value) if span is None else abs(wanted - value) / span


def objectives(grid: Grid, results: Results) -> dict[int, tuple[float, ...]]:
    """{combination: (mean sharpness, mean fidelity, -mean seconds)}, higher is better, of those usable in all blocks.

    Fidelity or seconds is left out where one of these pictures has none.
    """
    whole: dict[int, list[Outcome]] = {}
    for c in grid.distinct:
        found = [results[cell] for cell in grid.cells(c) if cell in results]
        if len(found) == len(grid.distinct_blocks) and all(result.usable for result in found):
            whole[c] = found
    names = [
        n
        for n in ("sharpness", "fidelity", "seconds")
        if all(getattr(r, n) is not None for v in whole.values() for r in v)
    ]
    sign = {"seconds": -1.0}
    return {
        c: tuple(sign.get(n, 1.0) * float(np.mean([getattr(r, n) for r in v])) for n in names) for c, v in whole.items()
    }


def _non_dominated(points: Mapping[int, tuple[float, ...]]) -> list[int]:
    """Those that no other beats in one objective while being as good in all."""
    beaten = dominated(np.array(list(points.values())))
    return [name for name, is_beaten in zip(points, beaten, strict=True) if not is_beaten]


def front(grid: Grid, results: Results) -> list[Combination]:
    """The combinations that are usable in all blocks and not dominated in sharpness, fidelity and time."""
    return [grid.combinations[c] for c in _non_dominated(objectives(grid, results))]
