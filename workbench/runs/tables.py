"""A run as DataFrames: a row for each cell, and a row for each setting over its prompts and seeds."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from workbench.files import write_atomic
from workbench.scores import MEASURES
from workbench.settings import knobs

from .axes import plain, swept
from .identical import same_pictures
from .records import SettingValues

if TYPE_CHECKING:
    import pandas as pd

    from .run import Run

SCORE_COLUMNS = (*MEASURES, "faces")
BLOCKING = {measure.flag for measure in MEASURES.values() if measure.flag and measure.blocks}


def cell_table(run: Run) -> pd.DataFrame:
    """See `Run.table`."""
    import pandas as pd

    columns = [
        "cell",
        "status",
        "reason",
        *knobs(),
        *(name for name in swept(run.axes) if name not in knobs()),
        *SCORE_COLUMNS,
        "flags",
        "seconds",
        "picture",
        "pixels_sha256",
    ]
    rows = []
    for record in run.records():
        scores = record.get("scores", {})
        rows.append(
            {
                **{name: record.get(name) for name in columns if name in record},
                **record["settings"],
                **{name: scores.get(name) for name in SCORE_COLUMNS},
                "flags": ", ".join(scores.get("flags", [])),
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(columns)).astype(dict.fromkeys(MEASURES, float))


def write_table(run: Run) -> pd.DataFrame:
    """Write `Run.table` as `table.csv` into the run's folder."""
    table = run.table()
    write_atomic(run.path / "table.csv", table.to_csv(index=False).encode())
    return table


def setting_table(run: Run, *, merged: bool) -> pd.DataFrame:
    """See `Run.summary`."""
    import pandas as pd

    run.score_version()
    table, axes, spec = cell_table(run), swept(run.axes), run.about["spec"]
    table["one"] = 0  # a run without axes still has one combination
    by = axes or ["one"]
    blocks = len(spec["prompts"]) * len(spec["seeds"])
    if search := run.search():
        blocks = search.get("blocks", blocks)
    made = table["pixels_sha256"].map(lambda picture: isinstance(picture, str))
    alone = table[~(table.duplicated([*by, "pixels_sha256"]) & made)]  # equal pictures are never independent evidence
    grouped = alone.groupby(by, sort=False)["sharpness"]
    blocking = pd.Series([_blocks(flags) for flags in alone["flags"]], index=alone.index, dtype=bool)
    rows = pd.DataFrame(
        {
            "n": grouped.count(),
            "mean": grouped.mean(),
            "sd": grouped.std(),
            "missing": grouped.size() - grouped.count(),
            "not_run": blocks - table.groupby(by, sort=False).size(),
            "flagged": blocking.groupby([alone[name] for name in by], sort=False).sum(),
        }
    )
    rows["same"] = ""
    for group in _equal_combinations(table, by) if merged else ():
        rows.loc[[group[0]], "same"] = _differences(group, axes)
        rows = rows.drop(index=group[1:])
    # means over other prompts and seeds do not compare: whole settings come first
    order = ["not_run", "missing", "mean"]
    return rows.sort_values(order, ascending=[True, True, False], kind="stable")


class SettingRow(NamedTuple):
    """A row of `Run.summary`, with its swept settings."""

    combination: SettingValues
    n: int
    mean: float
    sd: float
    missing: int
    not_run: int
    flagged: int


def setting_rows(run: Run, *, merged: bool = True) -> list[SettingRow]:
    """The rows of `Run.summary`, best first; NaN where nothing was measured."""
    summary, axes, found = run.summary(merged=merged), swept(run.axes), []
    for index, row in zip(summary.index, summary.to_dict("records"), strict=True):
        values = index if isinstance(index, tuple) else (index,)
        combination = {axis: _plain_number(value) for axis, value in zip(axes, values, strict=False)}
        counts = [int(row[name]) for name in ("missing", "not_run", "flagged")]
        found.append(SettingRow(combination, int(row["n"]), float(row["mean"]), float(row["sd"]), *counts))
    return found


def _plain_number(value: object) -> object:
    """numpy's numbers as Python's own."""
    item = getattr(value, "item", None)
    return item() if item else value


def _blocks(flags: str) -> bool:
    """Whether one of a cell's flags keeps its setting from being promoted."""
    return not BLOCKING.isdisjoint(flags.split(", "))


def _equal_combinations(table: pd.DataFrame, by: list[str]) -> list[list[Hashable]]:
    """Groups of setting combinations (as the table's index has them) that gave equal pictures on every prompt and seed."""
    pictures: dict[Hashable, dict[Hashable, str | None]] = {}
    for combination, cells in table.groupby(by if len(by) > 1 else by[0], sort=False):
        places = zip(cells["prompt"], cells["seed"], strict=True)
        made = (picture if isinstance(picture, str) else None for picture in cells["pixels_sha256"])  # None: it failed
        pictures[combination] = dict(zip(places, made, strict=True))
    return [group for group in same_pictures(pictures) if len(group) > 1]


def _differences(group: Sequence[Hashable], names: list[str]) -> str:
    """In what combinations differ, in words: "weight 0.2 = 0.6 = 1"."""
    rows = [row if isinstance(row, tuple) else (row,) for row in group]
    values = {name: list(dict.fromkeys(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return ", ".join(f"{name} {' = '.join(map(plain, v))}" for name, v in values.items() if len(v) > 1)
