"""What each chart says, for who cannot see it: the same numbers in one or a few sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.analysis import headline, number_text
from workbench.runs import Run, label, setting_rows, swept, told
from workbench.scores import Measure
from workbench.settings import stages

if TYPE_CHECKING:
    import pandas as pd


def ranking(run: Run) -> str:
    return f"The best settings with their intervals. {headline(run).words}"


def heat_maps(run: Run, measure: Measure) -> str:
    """The highest and the lowest mean, where the sharpness is shown; of another measure what is shown."""
    title = f"Mean {measure.name.replace('_', ' ')} of every setting"
    rows = [row for row in setting_rows(run, merged=False) if row.n]
    if measure.name != "sharpness" or not rows:
        return f"{title}."
    ends = sorted(rows, key=lambda row: row.mean)[:: max(1, len(rows) - 1)]
    low, high = (f"{row.mean:.1f} with {told(row.combination) or 'the only setting'}" for row in (ends[0], ends[-1]))
    return f"{title}: from {low} to {high}."


def main_effects(tables: Mapping[str, pd.DataFrame], measure: Measure) -> str:
    """Of every axis the mean at each of its ends, or of its lowest and highest value where it has no order."""
    said = []
    for axis, table in tables.items():
        means = {str(value): float(f"{mean}") for value, mean in table["mean"].dropna().items()}
        if not means:
            said.append(f"{label(axis)}: not measured")
            continue
        ends = (min(means, key=means.__getitem__), max(means, key=means.__getitem__))
        low, high = (f"{value} ({number_text(means[value], measure)})" for value in ends)
        said.append(f"{label(axis)}: lowest at {low}, highest at {high}")
    return f"Main effects on {measure.name.replace('_', ' ')}. {'; '.join(said)}."


def pareto_front(run: Run, table: pd.DataFrame, front: pd.DataFrame) -> str:
    """How many settings are on the front, and its two ends. `front`: its rows in order of their fidelity."""
    title = "Sharpness against fidelity to the unrestored picture"
    if front.empty:
        return f"{title}: no setting is on the front."
    ends = [front.loc[front["sharpness"].idxmax()], front.loc[front["sharpness"].idxmin()]]
    words = [
        f"{told({name: row[name] for name in swept(run.axes)}) or 'the only setting'} with sharpness {row['sharpness']:.1f} "
        f"and fidelity {row['fidelity']:.3f}"
        for row in ends
    ]
    on = f"{title}: {sum(table['front'].tolist())} of {len(table)} settings are on the front"
    return f"{on}: {words[0]}." if words[0] == words[1] else f"{on}, from {words[0]} to {words[1]}."


def stage_times(table: pd.DataFrame) -> str:
    times = [f"{stages()[str(stage)].label} {total:.3g} s" for stage, total in table["total"].items()]
    return f"Seconds of work of each stage in all: {', '.join(times)}."
