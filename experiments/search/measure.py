"""Races on surfaces whose best setting is known, against the whole grid. Prints one line a surface; makes no picture.

    python experiments/search/measure.py --repetitions 100 --levels 4 --blocks 6 --noise 0.2 1

Columns: *same*: the race found the whole grid's winner; *within*: its winner's mean over the whole grid lies in the
95 % interval of the grid's winner; *pictures*: share of the grid's; *dropped*: at some time of the race every truly
best setting was called behind; *regret*: how far the found setting's true value lies below the best, in ranges of the
surface, for the race, the whole grid, the grid on a third of its blocks, and a random third of the settings.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np

from workbench.sweeps.search.grid import Grid, Outcome, winner
from workbench.sweeps.search.strategies import choose

SURFACES = ("smooth", "ridge", "twin", "flat", "dead", "jump", "rough", "heavy", "failures")


def surface(kind: str, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True values (combinations,) of range 1 (flat: 0) at coordinates (combinations, 3) from 0 to 1."""
    best = rng.uniform(0.15, 0.85, 3)
    value = -(((at - best) ** 2) * rng.uniform(0.4, 1, 3)).sum(1)
    if kind == "flat":
        return np.zeros(len(at))
    if kind == "ridge":
        value = (
            -3 * (at[:, 0] - at[:, 1]) ** 2 - 0.3 * (at[:, :2].sum(1) - 2 * best[0]) ** 2 - (at[:, 2] - best[2]) ** 2
        )
    if kind == "twin":
        value = sum(np.exp(-((at - p) ** 2).sum(1) / 0.1) for p in ([0, 0, 1 / 3], [1, 1, 1 / 3]))
    if kind == "dead":
        value = -((at[:, :2] - best[:2]) ** 2).sum(1)
    if kind == "jump":  # the third axis is an unordered one
        steps = rng.permutation(np.linspace(0, 1, len(np.unique(at[:, 2]))) ** 2)
        value = -((at[:, :2] - best[:2]) ** 2).sum(1) + steps[np.searchsorted(np.unique(at[:, 2]), at[:, 2])]
    if kind == "rough":
        value = rng.normal(size=len(at))
    return (value - value.min()) / (value.max() - value.min())


def one(kind: str, levels: int, blocks: int, noise: float, seed: int, prompts: int = 1) -> dict[str, float]:
    rng = np.random.default_rng([seed, SURFACES.index(kind)])
    numbers = [float(i) for i in range(levels)]
    names = [f"kind {i}" for i in range(levels)]
    grid = Grid.of(
        {"x": numbers, "y": numbers, "z": names if kind == "jump" else numbers},
        [f"p{i}" for i in range(prompts)],
        range(blocks // prompts),
    )
    at = np.array(list(itertools.product(numbers, repeat=3))) / (levels - 1)
    truth, n = surface(kind, at, rng), len(at)
    # each prompt's own taste, as large as the noise: the whole grid's winner is the best on these prompts
    taste = noise * rng.normal(size=(prompts, n)) * (prompts > 1)
    # Student's t with 2 degrees of freedom has no variance; its quartiles here are those of the normal noise
    error = 0.826 * rng.standard_t(2, (blocks, n)) if kind == "heavy" else rng.normal(size=(blocks, n))
    picture = np.arange(n)
    if kind == "dead":
        picture = picture // levels * levels
    level = rng.normal(size=(blocks, 1))
    taste = taste[:, picture]
    values = truth + np.repeat(taste, blocks // prompts, axis=0) + level - level.mean() + noise * error[:, picture]
    truth = truth + taste.mean(0)
    failed = rng.random((blocks, n)) < (0.1 if kind == "failures" else 0)
    every = {
        cell: Outcome(None, status="failed")
        if failed[divmod(cell, n)]
        else Outcome(float(values[divmod(cell, n)]), key=f"{cell // n}-{picture[cell % n]}")
        for cell in range(len(grid))
    }
    whole = winner(grid, every)
    best = {int(c) for c in np.flatnonzero(truth >= truth.max() - 1e-9) if not failed[:, c].any()}
    results: dict[int, Outcome] = {}
    dropped = False
    while True:
        choice = choose("race", grid, results, seed=seed)
        dropped |= bool(best) and all(choice.states[c].reason.startswith("behind") for c in best)
        if not choice.cells:
            break
        results.update({cell: every[cell] for cell in choice.cells})
    found = grid.combinations.index(winner(grid, results).combination)
    third = {cell: every[cell] for cell in range(round(blocks / 3) * n)}
    drawn = {cell: every[cell] for cell in choose("random", grid, {}, seed=seed).cells}
    mean = np.where(failed, np.nan, values)
    # as the interval is: within blocks
    mean = np.nanmean(mean - np.nanmean(mean, 1, keepdims=True), 0) + np.nanmean(mean)
    spot = grid.combinations.index(whole.combination)
    regret = {
        name: truth.max() - truth[grid.combinations.index(winner(grid, found).combination)]
        for name, found in (("race", results), ("grid", every), ("third", third), ("random", drawn))
    }
    return {
        "same": picture[found] == picture[spot],
        "within": mean[found] >= mean[spot] - (whole.mean - whole.interval[0]),
        "pictures": len(results) / len(grid),
        "dropped": dropped,
        **regret,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=1, help="that the blocks are of; each has a taste of its own")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.2, 1.0], help="standard deviation, in ranges")
    parser.add_argument("--surfaces", nargs="+", default=SURFACES, choices=SURFACES)
    a = parser.parse_args()
    print("| surface | noise | same | within | pictures | dropped | regret race | grid | third | random | s |")
    print("|" + "---|" * 11)
    for kind, noise in itertools.product(a.surfaces, a.noise):
        started = time.perf_counter()
        rows = [one(kind, a.levels, a.blocks, noise, seed, a.prompts) for seed in range(a.repetitions)]
        means = [f"{np.mean([row[name] for row in rows]):.2f}" for name in rows[0]]
        seconds = (time.perf_counter() - started) / a.repetitions
        print(f"| {kind} | {noise:g} | {' | '.join(means)} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
