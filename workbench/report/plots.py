"""Charts of a run: heat maps, main effects, Pareto front, ranking with intervals, time of each stage.

Colours are cividis and Okabe and Ito's (2008), which colour-blind eyes tell apart.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.analysis import effects, measure_named, number_text, shown_cells
from workbench.evidence import mean_interval
from workbench.files import ON_COLOUR, Chart, cells_gid, new_figure
from workbench.runs import Run, label, plain, swept, told
from workbench.scores import MEASURES, SHARPNESS, Measure
from workbench.settings import stages

from . import chart_words as words_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, GRID = "#0072b2", "#d55e00", "#595959", "#dddddd"  # of `files.PALETTE`: a theme may replace them
MOST_PANELS = 12  # of a heat map; beyond, the mean over the axes that are left is shown
MOST_NAMED = 12  # settings of a Pareto front
PER_ROW = 4
SPARE = 0.09  # share of an axis between two tick labels, so that they do not touch


def direction(measure: Measure) -> str:
    """A measure's name, unit and direction for an axis: "sharpness, points, higher is better"."""
    said = {True: ", higher is better", False: ", lower is better", None: ""}[measure.higher_is_better]
    return f"{measure.name.replace('_', ' ')}, {measure.unit}{said}"


def on_cividis(shade: float) -> tuple[str, str]:
    """(colour, colour of text on it) as "#rrggbb", for a shade of 0 to 1.

    The colour is cividis; the text is black or white, whichever has the higher contrast, which is always above 4.5.
    """
    from matplotlib import colormaps

    red, green, blue, _ = colormaps["cividis"](float(shade))
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # WCAG 2.2, relative luminance
    text = "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}", text


def heat_maps(run: Run, measure: str = "sharpness") -> Chart:
    """Means of a measure over prompts and seeds: a panel per CodeFormer weight, with the two costliest other axes in each.

    Without an axis `weight` the last axis makes the panels. Further axes make more of them, up to 12 in all; over those that
    find no room the mean is shown. A number with `*` is the mean of fewer pictures than there should be; – stands where
    none was measured. Raises `UsageError` for a measure that does not exist, `MixedScores`.
    """
    which = measure_named(measure)
    run.score_version()
    axes = {name: values for name, values in run.axes.items() if len(values) > 1}
    title = f"Mean {measure.replace('_', ' ')} over prompts and seeds"
    if not axes:
        mean, *_ = mean_interval(effects.measured(run, measure).ravel())
        said = "not measured" if math.isnan(mean) else f"{number_text(mean, which)} {which.unit}"
        return _nothing(title, f"This run has one setting only: {said}.")
    inner = "weight" if "weight" in axes else next(reversed(axes))
    others = [name for name in axes if name != inner]
    if len(others) < 1:
        inner, others = None, list(axes)
    y, x = (others[0], others[1]) if len(others) > 1 else (None, others[0])
    panels = [name for name in (inner, *others[2:]) if name]
    while math.prod(len(axes[name]) for name in panels) > MOST_PANELS and len(panels) > 1:
        panels.pop()
    averaged = [name for name in others[2:] if name not in panels]
    if panels and len(axes[panels[0]]) > MOST_PANELS:
        averaged, panels = [*averaged, panels[0]], []
    cells, missing = _means(run, measure, [*panels, *([y] if y else []), x])
    sizes = [len(axes[name]) if name else 1 for name in (y, x)]
    cells, missing = (array.reshape(-1, *sizes) for array in (cells, missing))
    words = [told(dict(zip(panels, values, strict=True)))
             for values in itertools.product(*(axes[name] for name in panels))]  # fmt: skip
    across = min(PER_ROW, len(cells))
    down = math.ceil(len(cells) / across)
    wide = max(2.6, (0.72 if sizes[1] <= MOST_PANELS else 0.5) * sizes[1] + 0.9)
    figure = new_figure(max(5.4, across * wide + 1.5), 1.35 + down * max(1.5, 0.42 * sizes[0] + 0.75))
    low, high = (float(np.nanmin(cells)), float(np.nanmax(cells))) if not np.isnan(cells).all() else (0.0, 1.0)
    images = []
    for i, panel in enumerate(cells):
        ax = figure.add_subplot(down, across, i + 1)
        colours = "cividis_r" if which.higher_is_better is False else "cividis"
        top = high if high > low else low + 1
        images.append(ax.imshow(panel, cmap=colours, vmin=low, vmax=top, aspect="auto"))
        _ticks(ax, axes, x, y)
        ax.set_title(words[i], fontsize=10)
        for (r, c), value in np.ndenumerate(panel):
            shade = (value - low) / (high - low) if high > low else 0.0
            ink = (
                "black" if math.isnan(value) else on_cividis(1 - shade if which.higher_is_better is False else shade)[1]
            ).replace("#000000", ON_COLOUR)
            text = "–" if math.isnan(value) else number_text(value, which) + "*" * bool(missing[i, r, c])
            ax.text(c, r, text, ha="center", va="center", fontsize=9 if sizes[1] <= 8 else 7, color=ink)
    bar = figure.colorbar(images[-1], ax=figure.axes, label=_wrapped(direction(which), 24))
    bar.ax.tick_params(labelsize=8)
    star = ";  * some are not measured" if missing.any() else ""
    figure.suptitle(", ".join([title, *map(label, averaged)]) + star, fontsize=12)
    return Chart(figure, words_of.heat_maps(run, which))


def _means(run: Run, measure: str, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(means, how many numbers are missing in each) over everything but the axes `names`, which are the two arrays' axes."""
    axes = list(run.axes)
    grid = effects.measured(run, measure)
    grid = grid.reshape(len(grid), *(len(values) for values in run.axes.values()))
    kept = [axes.index(name) + 1 for name in names]
    grid = np.moveaxis(grid, kept, range(len(kept)))
    grid = grid.reshape(*grid.shape[: len(kept)], -1)
    there = ~np.isnan(grid)
    counts = there.sum(axis=-1)
    means = np.where(counts, np.where(there, grid, 0).sum(axis=-1) / np.maximum(counts, 1), np.nan)
    return means, np.where(counts, grid.shape[-1] - counts, 0)


def _ticks(ax: Axes, axes: Mapping[str, Sequence[object]], x: str, y: str | None) -> None:
    values = axes[x]
    every = math.ceil(len(values) / MOST_PANELS)
    _words(ax, range(0, len(values), every), values[::every])
    ax.set_xlabel(label(x), fontsize=9)
    ax.set_yticks(range(len(axes[y]) if y else 0), [_wrapped(plain(v), 12) for v in (axes[y] if y else [])], fontsize=8)
    ax.set_ylabel(label(y) if y else "", fontsize=9)


def _words(ax: Axes, places: Sequence[float] | np.ndarray, values: Sequence[object]) -> None:
    """Write values under an axis: long ones on several lines where they are few, turned where they are many."""
    turned = len(values) > 4 and max(len(plain(v)) for v in values) > 5
    ax.set_xticks(places, [_wrapped(plain(v), 30 if turned else 8) for v in values], fontsize=8)
    if turned:
        ax.tick_params(axis="x", labelrotation=35)


def main_effects(run: Run, measure: str = "sharpness") -> Chart:
    """One panel per axis: the mean of each of its values (`effects.main_effects`) with two 95 % intervals over blocks.

    The band is the interval of the mean itself, and as wide as prompts and seeds differ. The bars are those of the
    difference within prompts and seeds, which tell values of the axis apart. With one prompt and seed there is neither, and
    the figure says so. Raises `UsageError` for a measure that does not exist, `MixedScores`.
    """
    which = measure_named(measure)
    names = [name for name, values in run.axes.items() if len(values) > 1]
    if not names:
        return _nothing("Main effects", "No axis has more than one value, so there is nothing to compare.")
    tables = {name: effects.main_effects(run, name, measure) for name in names}
    across = min(PER_ROW, len(names))
    down = math.ceil(len(names) / across)
    figure = new_figure(max(5.6, 3.1 * across + 0.6), 1.25 + 2.55 * down)
    blocks = len(effects.measured(run, measure)) - len(run.repeated_blocks())
    first = None
    for i, name in enumerate(names):
        ax = figure.add_subplot(down, across, i + 1, sharey=first)
        first = first or ax
        table, values = tables[name], run.axes[name]
        numeric = all(type(v) in (int, float) for v in values)
        xs = np.array(values, float) if numeric else np.arange(len(values), dtype=float)
        order = np.argsort(xs)
        mean, low, high = (table[column].to_numpy(float) for column in ("mean", "low", "high"))
        bars = table["effect"].to_numpy(float) - table["effect_low"].to_numpy(float)
        ax.fill_between(xs[order], low[order], high[order], color=BLUE, alpha=0.18, linewidth=0)
        ax.plot(xs[order], mean[order], "o-" if numeric else "o", color=BLUE, markersize=5)
        ax.errorbar(xs, mean, yerr=bars, fmt="none", ecolor=ORANGE, elinewidth=2, capsize=4)
        shown = _apart(xs) if numeric else list(range(len(values)))
        _words(ax, xs[shown], [values[k] for k in shown])
        spare = 0.1 * (xs.max() - xs.min())
        ax.set_xlim(xs.min() - spare, xs.max() + spare)
        for gone in xs[np.isnan(mean)]:
            ax.text(
                gone, 0.03, "not\nmeasured", transform=ax.get_xaxis_transform(), ha="center", fontsize=7, color=GREY
            )
        ax.set_xlabel(label(name), fontsize=9)
        used = int(table["blocks"].to_numpy().max())
        ax.set_title(f"{used} of {blocks} blocks" if used < blocks else "", fontsize=8, color=GREY)
        if i % across == 0:
            ax.set_ylabel(_wrapped(direction(which), 26), fontsize=9)
        ax.tick_params(axis="y", labelsize=8)
        ax.grid(axis="y", color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
    if first is not None:  # two blocks give bands far beyond what a score can be
        low, high = first.get_ylim()
        first.set_ylim(max(low, which.low - 0.02 * (high - low)), min(high, which.high + 0.02 * (high - low)))
    banded = any(table["low"].notna().any() for table in tables.values())
    said = (
        "band: 95 % of the level over prompts and seeds;  bars: 95 % of the difference within them"
        if banded
        else "no bands: they need two prompts or seeds"
    )
    figure.suptitle(f"Main effects on {measure.replace('_', ' ')}", fontsize=12)
    figure.supxlabel(_wrapped(said, int(figure.get_figwidth() * 14)), fontsize=8.5, color=GREY)
    return Chart(figure, words_of.main_effects(tables, which))


def _apart(xs: np.ndarray) -> list[int]:
    """Which values get a label so that no two labels touch: their places in `xs`, from left to right, first one always."""
    shown: list[int] = []
    for k in np.argsort(xs):
        if not shown or xs[k] - xs[shown[-1]] >= 2 * SPARE * (xs.max() - xs.min()):
            shown.append(int(k))
    return shown


def pareto_front(run: Run, fidelity: str | None = None) -> Chart:
    """Mean sharpness against mean fidelity of every setting; flagged ones are hollow.

    Up to 12 of those on the front have a number in the plot, and stand beside it with their settings. Raises as
    `effects.pareto`.
    """
    table = effects.pareto(run, fidelity)
    name = table.attrs["fidelity"]
    which, title = MEASURES[name], f"Sharpness against fidelity to the unrestored picture ({name})"
    table = table.loc[table["blocks"] > 0]
    table = table.assign(cell=_shown(run, table)).reset_index()
    if table.empty:
        return _nothing(title, f"No picture has both a sharpness and a fidelity ({name}): not measured.")
    front = table.loc[table["front"]].sort_values(by="fidelity")
    named = front.iloc[np.unique(np.linspace(0, len(front) - 1, min(len(front), MOST_NAMED)).round().astype(int))]
    lines = [_wrapped(f"{i}  {_setting(run, row)}", 60, "    ") for i, (_, row) in enumerate(named.iterrows(), start=1)]
    high = max(4.4, 2.3 + 0.155 * sum(line.count("\n") + 1 for line in lines))
    figure = new_figure(9.2, high, constrained=False)
    ax = figure.add_axes((0.08, 0.54 / high, 0.44, 1 - 0.98 / high))
    whole, flagged = table["whole"].astype(bool), table["flagged"] > 0
    kinds = (
        ("on the front", table["front"], BLUE, "o"),
        ("not on it", whole & ~flagged & ~table["front"], GREY, "o"),
        ("a guard fired", flagged, ORANGE, "D"),
        ("not all prompts and seeds", ~whole & ~flagged, GREY, "x"),
    )
    for kind, rows, colour, marker in kinds:
        part = table.loc[rows]
        if len(part):
            points = ax.scatter(
                part["fidelity"],
                part["sharpness"],
                s=34,
                color=colour,
                marker=marker,
                label=kind,
                linewidths=1.4,
                zorder=3,
            )
            points.set_gid(cells_gid(part["cell"].tolist()))
            if colour == ORANGE:
                points.set_facecolor("none")  # its edge keeps the colour
    steps = "steps-pre" if which.higher_is_better else "steps-post"  # nothing was found beyond this stair
    ax.plot(front["fidelity"], front["sharpness"], drawstyle=steps, color=BLUE, linewidth=1, zorder=2)
    ax.margins(0.12)
    ax.set_xlabel(_wrapped(direction(which), 44), fontsize=9)
    ax.set_ylabel(direction(SHARPNESS), fontsize=9)
    ax.tick_params(labelsize=8)
    ax.grid(color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_title(title, fontsize=12, loc="left")
    _number(figure, ax, named)
    figure.legend(*ax.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0.53, 1 - 0.4 / high), fontsize=8.5,
                  frameon=False)  # fmt: skip
    few = f" ({len(named)} of {len(front)} have a number)" if len(named) < len(front) else ""
    text = "\n".join([f"On the front{few}:", *lines]) if lines else "No setting is on the front."
    figure.text(0.545, 1 - 1.45 / high, text, va="top", fontsize=8.5)
    return Chart(figure, words_of.pareto_front(run, table, named))


def _number(figure: Figure, ax: Axes, named: pd.DataFrame) -> None:
    """Write 1, 2, 3 ... beside the points of the front, each where it covers no other number and no point."""
    figure.draw_without_rendering()
    unit = figure.dpi / 72
    points = [np.ma.filled(part.get_offsets(), np.nan) for part in ax.collections]
    every = ax.transData.transform(np.vstack(points)) if points else np.empty((0, 2))
    taken: list[tuple[float, float]] = []
    rings = [(r * math.cos(t), r * math.sin(t)) for r in (12, 19, 27, 36) for t in np.arange(0.6, 6.8, math.pi / 6)]
    for number, (_, row) in enumerate(named.iterrows(), start=1):
        x, y = ax.transData.transform((row["fidelity"], row["sharpness"]))

        def crowd(offset: tuple[float, float], x: float = x, y: float = y) -> float:
            place = np.array([x, y]) + np.array(offset) * unit
            others = np.reshape(np.array(taken), (-1, 2))
            return _closeness(place, every, 9 * unit) + _closeness(place, others, 16 * unit)

        best = min(rings, key=crowd)
        taken.append((x + best[0] * unit, y + best[1] * unit))
        ax.annotate(
            str(number), (row["fidelity"], row["sharpness"]), xytext=best, textcoords="offset points",
            ha="center", va="center", fontsize=9, color=BLUE,
        )  # fmt: skip


def _closeness(place: np.ndarray, points: np.ndarray, radius: float) -> float:
    """How far `points` (n, 2) reach into a circle around a place, altogether."""
    distances = np.hypot(*(place - points).T)
    return float(np.fmax(0.0, radius - distances).sum())  # a point that is no number reaches nowhere


def _setting(run: Run, row: pd.Series) -> str:
    return told({name: row[name] for name in swept(run.axes)}) or "the only setting"


def _shown(run: Run, table: pd.DataFrame) -> list[int]:
    """For each row of a table of settings the cell that stands for it."""
    cells = shown_cells(run)
    return [cells.get(index if isinstance(index, tuple) else (index,), -1) for index in table.index]


def ranking(run: Run, top: int = 10) -> Chart:
    """The `top` best settings: on the left their means, on the right their differences to the first, with 95 % intervals.

    Raises `MixedScores`.
    """
    table = effects.ranked(run, top)
    table = table.assign(cell=_shown(run, table)).reset_index()
    table = table.loc[table["n"] > 0]
    if table.empty:
        return _nothing("Ranking", "No picture has a sharpness: not measured.")
    names = [_wrapped(_setting(run, row) + " !" * bool(row["flagged"]), 46) for _, row in table.iterrows()]
    lines = sum(name.count("\n") + 1 for name in names)
    figure = new_figure(10.2, 1.7 + max(0.34 * len(table), 0.19 * lines + 0.12 * len(table)))
    ys = np.arange(len(table))[::-1]
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    colours = [ORANGE if flagged else BLUE for flagged in table["flagged"]]
    for ax, columns in ((left, ("mean", "low", "high")), (right, ("difference", "difference_low", "difference_high"))):
        numbers = table[list(columns)].to_numpy(float)
        for y, cell, colour, (middle, low, high) in zip(ys, table["cell"], colours, numbers, strict=True):
            if ax is left:  # the whole row can be pressed
                ax.axhspan(y - 0.5, y + 0.5, alpha=0, gid=cells_gid([cell]), zorder=0)
            ax.plot([low, high], [y, y], color=colour, linewidth=2)
            ax.plot(middle, y, "o", color=colour, markersize=6, markerfacecolor="none" if colour == ORANGE else colour)
        ax.set_ylim(-0.7, len(table) - 0.3)
        ax.grid(axis="x", color=GRID, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=8)
        ax.margins(x=0.08)
    left.set_yticks(ys, names, fontsize=8.5)
    left.set_xlabel(f"mean {direction(SHARPNESS)}", fontsize=9)
    right.axvline(0, color="black", linewidth=0.8)
    right.text(0, ys[0], " first ", fontsize=8, va="center", color=GREY, ha="right")
    right.set_yticks(ys, [""] * len(ys))
    right.set_xlabel("difference to the first, points", fontsize=9)
    flagged = ";  hollow and !: a guard fired" if table["flagged"].any() else ""
    alone = ";  without one: a single prompt and seed" if table["low"].isna().any() else ""
    sure = f"bars: 95 % intervals over prompts and seeds{alone}"
    if table["low"].isna().all():
        sure = "no intervals: they need two prompts or seeds"
    figure.suptitle(
        f"The best {len(table)} settings" if len(table) > 1 else "The only setting with a score", fontsize=12
    )
    figure.supxlabel(sure + flagged, fontsize=8.5, color=GREY)
    return Chart(figure, words_of.ranking(run))


def stage_times(run: Run) -> Chart:
    """Seconds of work of each stage in all, with how often it ran and its median."""
    table = effects.stage_seconds(run)
    if table.empty:
        return _nothing("Time of each stage", "No stage ran in this run: everything came from the store. Not measured.")
    figure = new_figure(6.6, 1.3 + 0.45 * len(table))
    ax = figure.add_subplot()
    ys = np.arange(len(table))[::-1]
    ax.barh(ys, table["total"], color=BLUE, height=0.62)
    numbers = table[["count", "total", "median"]].to_numpy(float)
    longest = numbers[:, 1].max()
    for y, (count, total, median) in zip(ys, numbers, strict=True):
        text = f"{_duration(total)}: {count:.0f} x {_duration(median)} (median)"
        ax.text(total + 0.015 * longest, y, text, va="center", fontsize=8.5)
    ax.set_xlim(0, longest * 1.75)
    ax.set_yticks(ys, [stages()[str(name)].label for name in table.index], fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel("seconds of work in all, less is better", fontsize=9)
    ax.set_title("Time of each stage", fontsize=12)
    return Chart(figure, words_of.stage_times(table))


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return "\n".join(textwrap.wrap(text, max(width, 8), subsequent_indent=indent, break_long_words=False)) or text


def _nothing(title: str, why: str) -> Chart:
    figure = new_figure(5.6, 1.4)
    ax = figure.add_subplot()
    ax.axis("off")
    ax.set_title(title, fontsize=12)
    ax.text(0.5, 0.5, _wrapped(why, 62), ha="center", va="center", fontsize=9.5, color=GREY)
    return Chart(figure, f"{title}. {why}")
