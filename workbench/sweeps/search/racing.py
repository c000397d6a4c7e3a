"""strategy = "race": a few pictures of every kind, then only of the settings that may still be the best.

After F-race (Birattari et al. 2002) and irace (López-Ibáñez et al. 2016). First about a sixth of the grid is made,
spread so that every value, every pair of values and every block comes up equally often. A linear mixed model (REML)
is fitted to all sharpnesses so far: a level for each block, a smooth effect of each axis, their smooth interaction,
each setting's own deviation, and each block's own taste in each axis. A setting is dropped when it is behind the
leader with p < 0.01; the others get their next block, best first, as many as the budget can still take through all
blocks. A setting with more unusable pictures (failed, no face, a guard fired) than the best can have is dropped too,
for it would not be promoted.

It assumes that noise is about equal everywhere. Smoothness it does not assume: on a rough surface REML gives the
variance to the settings' own deviations, and values that are no numbers have no order. With 2 to 4 blocks rank tests
such as Wilcoxon's cannot reach p < 0.05 at all (4 pairs: 0.0625 at best), which is why the test is a parametric one
with variances pooled over all settings. How often it errs: experiments/search/README.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr

from workbench.evidence import Surface

from .grid import Grid, Results, Rounds, Standing, losses, spread

# one-sided; with many looks at many settings a whole race drops the best one in up to 13 of 100 cases (15 where prompts
# differ)
ALPHA = 0.01


def parameters(codes: Sequence[np.ndarray], blocks: int) -> int:
    """How many numbers the block levels and the plain effects of the axes are."""
    return blocks + sum(int(code.max()) for code in codes)


def survey(grid: Grid) -> int:
    """Fewest pictures of a race's first round: 1.5 for each number to be estimated."""
    return math.ceil(1.5 * parameters(grid.codes(), len(grid.distinct_blocks)))


def race(grid: Grid, budget: int, seed: int) -> Rounds:
    distinct, blocks = grid.distinct, len(grid.distinct_blocks)
    codes = [code[distinct] for code in grid.codes()]
    surface = Surface(codes, grid.ordered(), len(distinct), blocks)
    count = max(survey(grid), budget // 2)
    drawn = spread(codes, len(distinct), blocks, max(1, min(count, budget - blocks)), seed)
    batch = sorted(grid.cell(distinct[i % len(distinct)], grid.distinct_blocks[i // len(distinct)]) for i in drawn)
    why = f"First round: {len(batch)} of at most {budget} pictures, spread over the whole grid."
    states = {c: Standing("contender", "not judged yet") for c in distinct}
    for number in itertools.count(2):
        known = yield batch, why, states
        states, order = _judge(grid, surface, known, parameters(codes, blocks))
        batch = _next_blocks(grid, order, states, known, budget - len(known))
        left = sum(state.state == "contender" for state in states.values())
        spent = f"{len(known)} of at most {budget} pictures made, {len(grid)} in the grid"
        level = f"{left} of {len(grid.combinations)} settings cannot be told from the best"
        if not order:
            yield [], f"Finished: no picture of the first round is usable ({spent}).", states
        elif not batch:
            yield [], f"Finished: {spent}; {level}.", states
        why = f"Round {number}: {spent}; {level}; {len(batch)} pictures for the best of them."


def _judge(grid: Grid, surface: Surface, known: Results, used: int) -> tuple[dict[int, Standing], list[int]]:
    """The state of every distinct combination, and all of them, the most promising first (none: nothing is measured).

    `used`: degrees of freedom that levels and effects cost.
    """
    distinct = grid.distinct
    place = {c: i for i, c in enumerate(distinct)}
    shape = len(grid.combinations)
    good = [cell for cell in sorted(known) if known[cell].usable]
    if not good:
        return {c: Standing("contender", "no picture is usable") for c in distinct}, []
    at = [cell // shape * len(distinct) + place[cell % shape] for cell in good]
    mean, covariance = surface.fit(at, [known[cell].sharpness or 0.0 for cell in good])
    lost = losses(grid, known)
    twins = _twins(grid, known)
    fewest = min(lost[c] for c in distinct)
    # rounded, because the last bits are not the same on every machine
    order = sorted(distinct, key=lambda c: (lost[c], c in twins, -round(float(mean[place[c]]), 6), c))
    best, states = order[0], {}
    i = place[best]
    for c in distinct:
        j = place[c]
        behind = mean[i] - mean[j]
        error = math.sqrt(max(covariance[i, i] + covariance[j, j] - 2 * covariance[i, j], 1e-12))
        p = float(stdtr(max(len(good) - used, 3), -behind / error))
        shared = sum({grid.cell(best, b), grid.cell(c, b)} <= known.keys() for b in grid.distinct_blocks)
        if lost[c] > fewest:
            made = sum(cell in known for cell in grid.cells(c))
            said = (
                f"{lost[c]} of its {made} pictures failed, had no usable face or set off a guard; others lost {fewest}"
            )
            states[c] = Standing("dropped", said)
        elif c in twins:
            states[c] = Standing("dropped", f"gives the same pictures as {grid.label(twins[c])}")
        elif c == best:
            states[c] = Standing("contender", "leads")
        elif p < ALPHA:
            ground = f"over {shared} shared pictures" if shared else "by the fitted surface, no picture shared"
            said = f"behind {grid.label(best)} by {behind:.1f} ± {error:.1f} {ground}, p = {p:.2g}"
            states[c] = Standing("dropped", said)
        else:
            said = f"{behind:.1f} ± {error:.1f} behind {grid.label(best)}, p = {p:.2g}"
            states[c] = Standing("contender", said)
    return states, order


def _twins(grid: Grid, known: Results) -> dict[int, int]:
    """{combination: an earlier one} where both show the very same picture in every block they share, two at least."""
    shape = len(grid.combinations)
    keys: dict[int, dict[int, str]] = {}
    for cell in sorted(known):
        if known[cell].usable and known[cell].key:
            keys.setdefault(cell % shape, {})[cell // shape] = known[cell].key
    by_picture: dict[tuple[int, str], list[int]] = {}
    found: dict[int, int] = {}
    for c in sorted(keys):
        mine = set(keys[c].items())
        for other in sorted({o for item in mine for o in by_picture.get(item, ())}):
            if len(keys[c].keys() & keys[other].keys()) == len(mine & set(keys[other].items())) > 1:
                found[c] = other
                break
        else:
            for item in mine:
                by_picture.setdefault(item, []).append(c)
    return found


def _next_blocks(grid: Grid, order: list[int], states: dict[int, Standing], known: Results, left: int) -> list[int]:
    """The next cell of the best contenders, as many as `left` pictures can take through all blocks.

    A single one gets all it lacks. Empty when all that can be finished are.
    """
    missing = {c: [cell for b in grid.block_order if (cell := grid.cell(c, b)) not in known] for c in order}
    contenders = [c for c in order if states[c].state == "contender"]
    chosen = []
    for c in contenders:
        if missing[c] and len(missing[c]) <= left:
            chosen.append(c)
            left -= len(missing[c])
    if not chosen and all(missing[c] for c in contenders):  # nobody could finish: a winner needs all its blocks
        chosen = [c for c in order if 0 < len(missing[c]) <= left][:1]
    return missing[chosen[0]] if len(chosen) == 1 else sorted(missing[c][0] for c in chosen)
