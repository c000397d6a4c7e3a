"""What a run's numbers say, and how sure they are: ranking, main effects, Pareto front, time of each stage.

A *block* is one prompt with one seed. Every setting is made in the same blocks, so settings are compared within blocks, and
an interval is Student's t over blocks, with one number from each (a randomised complete block design; Montgomery, Design and
Analysis of Experiments, chapter 4). Two cautions: blocks count as independent, which seeds of one prompt are only in part;
and the best of many settings looks better than it is, for which `ranked` allows. With fewer than two blocks intervals are
NaN, not measured. Knows no torch.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from workbench.errors import UsageError
from workbench.evidence import MARGIN, compare, dominated, mean_interval
from workbench.runs import Run, label, plain, swept
from workbench.scores import FIDELITY, MEASURES, SHARPNESS
from workbench.settings import stages

from .layout import measure_named, values_of

if TYPE_CHECKING:
    import pandas as pd


def measured(run: Run, measure: str = "sharpness") -> np.ndarray:
    """The numbers of a measure as float of shape (blocks, combinations of the axes' values), in the order of the cells.

    NaN where a cell has no such number, and where an earlier block shows the same picture. Raises `UsageError` for a
    measure that does not exist.
    """
    which, spec, axes = measure_named(measure), run.about["spec"], run.axes
    found = np.full((len(spec["prompts"]) * len(spec["seeds"]), math.prod(map(len, axes.values()))), np.nan)
    for cell, value in values_of(run.records(), which).items():
        found.flat[cell] = value
    for cell in run.repeated_cells():
        found.flat[cell] = np.nan
    return found


def ranked(run: Run, top: int | None = None) -> pd.DataFrame:
    """`Run.summary` (one row per setting, best first, identical ones merged), and how sure it is.

    The first row was picked because it is first, which flatters it; the last four columns allow for that. It adds:
        low, high: 95 % interval of the mean over blocks, for this setting by itself.
        shared: number of blocks in which both this setting and the first have a sharpness.
        difference: this setting's sharpness minus the first one's, within blocks. NaN in the first row.
        difference_low, difference_high: its interval; all of them together hold with 95 %.
        apart: whether that lies below 0. Those that are not told apart from the first are one group with it.
        shrunken: what of the mean is left when the share of the spread that is noise is taken out.

    `top`: so many rows only. Raises `MixedScores`.
    """
    summary = run.summary()
    grid, place = measured(run), combination_numbers(run)
    columns = [place[index if isinstance(index, tuple) else (index,)] for index in summary.index]
    values = grid[:, columns]
    found = compare(values, prompt_numbers(run))
    rows = []
    for i in range(len(columns)):
        _, low, high = mean_interval(values[:, i])
        shared = int((~np.isnan(values[:, i] - values[:, 0])).sum())
        apart, half = (found.means[i] - found.means[0], found.half_width(0, i)) if i else (math.nan, math.nan)
        rows.append((low, high, shared, apart, apart - half, apart + half, bool(apart + half < 0), found.shrunken[i]))
    names = ("low", "high", "shared", "difference", "difference_low", "difference_high", "apart", "shrunken")
    for name, column in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True):
        summary[name] = list(column)
    return summary if top is None else summary.head(top)


def group_words(table: pd.DataFrame) -> str:
    """How many settings of a `ranked` table are not told apart from the first, in a sentence; "" for one setting."""
    others = len(table) - 1
    if others < 1:
        return ""
    if np.isnan(table["difference_low"].to_numpy(float)).all():
        return "Which settings differ cannot be told: that takes two prompts or seeds."
    together = int(np.count_nonzero(~table["apart"].to_numpy(bool))) - 1
    if not together:
        return "The first setting is told apart from all others."
    if together == others:
        return "No setting is told apart from the first: its lead may be luck."
    return (
        f"{together} of the {others} other settings are not told apart from the first: which of them leads may be luck."
    )


def dead_axes(run: Run, margin: float = MARGIN) -> dict[str, float]:
    """{axis: points} of the axes whose values all have the same effect on the sharpness to within `margin` points, and by
    how much they differ at most (95 %, for all pairs of values together). Raises `MixedScores`."""
    run.score_version()
    found = {}
    for axis, values in run.axes.items():
        level, _ = _levels(run, axis)
        if len(values) < 2 or np.isnan(level).all(axis=0).any():
            continue
        compared = compare(level, prompt_numbers(run))
        pairs = itertools.combinations(range(len(values)), 2)
        most = max(abs(compared.means[i] - compared.means[j]) + compared.half_width(i, j) for i, j in pairs)
        if most <= margin:
            found[axis] = most
    return found


def dead_words(run: Run, margin: float = MARGIN) -> list[str]:
    """A sentence for each of `dead_axes`."""
    return [
        f"{label(axis)} makes no difference here: its values are as sharp as each other to within {most:.1f} points."
        for axis, most in dead_axes(run, margin).items()
    ]


def prompt_numbers(run: Run) -> np.ndarray:
    """(blocks,) the number of each block's prompt."""
    spec = run.about["spec"]
    return np.repeat(np.arange(len(spec["prompts"])), len(spec["seeds"]))


def combination_numbers(run: Run) -> dict[tuple[object, ...], int]:
    """{row of `Run.summary`, as a tuple: its column in `measured`}."""
    names, inner = swept(run.axes), math.prod(map(len, run.axes.values()))
    if not names:
        return {(0,): 0}
    return {tuple(r["settings"][name] for name in names): r["cell"] % inner for r in run.records()}


def main_effects(run: Run, axis: str, measure: str = "sharpness") -> pd.DataFrame:
    """What each value of an axis does, whatever the other axes say: one row per value, in the order of `run.axes`.

    The index is the values in words. In each block a value's number is its mean over those settings of the other axes at
    which every value of this axis was measured in that block. So where one cell failed or was left out by a search, its
    neighbours are not used either, and no mean is tilted. A value that was measured nowhere does not count in this; its row
    is NaN. The columns:
        mean, low, high: mean over blocks with its 95 % interval, which is as wide as blocks differ.
        effect, effect_low, effect_high: the same of the difference from the block's mean over all values. This tells values
            apart.
        blocks: number of blocks that have all values at some setting of the others.
        cells: number of cells of this value that were used.

    Raises `UsageError` for an axis that the run does not have, `MixedScores`.
    """
    import pandas as pd

    if axis not in run.axes:
        raise UsageError(
            f"'{axis}' is no axis of {run.id}; it has {', '.join(run.axes) or 'none, so that there is nothing to compare'}."
        )
    run.score_version()
    level, shared = _levels(run, axis, measure)
    seen = np.asarray(~np.isnan(level).all(axis=0))
    used = shared.any(axis=1)
    middle = level[:, seen].mean(axis=1, keepdims=True) if seen.any() else np.full((len(level), 1), np.nan)
    counts = [(int(used.sum()), int(shared.sum())) if is_seen else (0, 0) for is_seen in seen.tolist()]
    rows = [
        (*mean_interval(level[:, i]), *mean_interval(level[:, i] - middle[:, 0]), *counts[i])
        for i in range(level.shape[1])
    ]
    columns = ["mean", "low", "high", "effect", "effect_low", "effect_high", "blocks", "cells"]
    index = pd.Index([plain(value) for value in run.axes[axis]], name=axis)
    return pd.DataFrame(rows, columns=pd.Index(columns), index=index)


def _levels(run: Run, axis: str, measure: str = "sharpness") -> tuple[np.ndarray, np.ndarray]:
    """(of each block and value of an axis its mean over the settings of the others where every value was measured, which
    these are: (blocks, combinations of the others))"""
    grid = measured(run, measure)
    sizes, place = [len(values) for values in run.axes.values()], list(run.axes).index(axis) + 1
    # (blocks, values of this axis, combinations of the others)
    cells = np.moveaxis(grid.reshape(len(grid), *sizes), place, 1).reshape(len(grid), sizes[place - 1], -1)
    there = ~np.isnan(cells)
    seen = np.asarray(there.any(axis=(0, 2)))  # values of this axis that were measured anywhere
    shared = np.asarray(there[:, seen].all(axis=1) & seen.any())
    level = np.full(cells.shape[:2], np.nan)
    for block in np.flatnonzero(shared.any(axis=1)):
        level[block, seen] = cells[block][seen][:, shared[block]].mean(axis=1)
    return level, shared


def fidelity_measure(run: Run) -> str:
    """`lpips` where it was measured on every face that has a sharpness, else `ssim`."""
    lacking = ~np.isnan(measured(run)) & np.isnan(measured(run, "lpips"))
    return "lpips" if not lacking.any() and not np.isnan(measured(run)).all() else "ssim"


def pareto(run: Run, fidelity: str | None = None) -> pd.DataFrame:
    """Mean sharpness against mean fidelity to the unrestored picture: one row per setting, best sharpness first.

    Args:
        fidelity: "lpips", "ssim" or "identity_drift"; None: `fidelity_measure`.

    The columns:
        sharpness, fidelity: means over the blocks that have both, each in its own unit. `attrs["fidelity"]` names the latter.
        blocks: number of these blocks.
        flagged: number of cells with a flag that blocks promotion.
        whole: whether every block has both.
        front: whether it is on the Pareto front: no other setting is at least as good in both and better in one. Only whole
            settings without a flag compete, because the sharpness of a flagged one cannot be trusted.

    Raises `UsageError` for a measure that is not one of fidelity, `MixedScores`.
    """
    import pandas as pd

    name = fidelity or fidelity_measure(run)
    if name not in FIDELITY or name == "niqe":
        raise UsageError(f"'{name}' does not measure fidelity; there are lpips, ssim and identity_drift.")
    place, summary = combination_numbers(run), run.summary()
    flagged: list[int] = [int(n) for n in summary["flagged"]]
    sharp, faithful = measured(run), measured(run, name)
    both = ~np.isnan(sharp) & ~np.isnan(faithful)
    again = np.zeros(both.shape, bool)
    again.flat[[*run.repeated_cells()]] = True
    rows = []
    for i, index in enumerate(summary.index):
        column = place[index if isinstance(index, tuple) else (index,)]
        there = both[:, column]
        means = [float(numbers[there, column].mean()) if there.any() else math.nan for numbers in (sharp, faithful)]
        rows.append((*means, int(there.sum()), flagged[i], bool((there | again[:, column]).all())))
    columns = pd.Index(["sharpness", "fidelity", "blocks", "flagged", "whole"])
    table = pd.DataFrame(rows, columns=columns, index=summary.index)
    signs = [1 if SHARPNESS.higher_is_better else -1, 1 if MEASURES[name].higher_is_better else -1]
    competes = (table["whole"] & (table["flagged"] == 0)).to_numpy(bool)
    points = table[["sharpness", "fidelity"]].to_numpy(float) * signs
    table["front"] = competes & ~dominated(points, by=points[competes])
    table.attrs["fidelity"] = name
    return table.sort_values("sharpness", ascending=not SHARPNESS.higher_is_better, kind="stable")


def stage_seconds(run: Run) -> pd.DataFrame:
    """How long each stage took, from the run's journal: one row per stage that ran.

    Columns: count (how often it ran), total and median (seconds). Results that came out of the store are not in it. Where
    several processes worked at once, `total` is more than the time that passed.
    """
    import pandas as pd

    lines = run.lines("stage")
    times = {stage: [line["seconds"] for line in lines if line["stage"] == stage] for stage in stages()}
    rows = {stage: (len(s), float(np.sum(s)), float(np.median(s))) for stage, s in times.items() if s}
    columns = pd.Index(["count", "total", "median"])
    return pd.DataFrame(list(rows.values()), columns=columns, index=pd.Index(list(rows), name="stage"))
