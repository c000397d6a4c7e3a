"""A sweep's run on disk: one folder, one durable record per cell, read back as a DataFrame.

`run.json` says what was asked, `journal.jsonl` grows by one line per finished stage and cell (the last line of a cell
counts), `pictures/` holds the finished pictures. Nothing here knows torch.
"""

from __future__ import annotations

import json
import math
import platform
import re
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadRun, MixedScores, RunNotFound
from workbench.files import append_line, home, read_lines, write_json
from workbench.scores import MEASURES, SHARPNESS

from ..settings import Settings

if TYPE_CHECKING:
    import pandas as pd

# states in which a cell's picture exists; in the last three it has no sharpness
DONE = ("done", "no_face", "face_too_small", "not_measured")
SCORE_COLUMNS = (*MEASURES, "faces")
RECORDED_LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "facexlib",
    "spandrel",
    "basicsr",
    "realesrgan",
    "pillow",
    "numpy",
)


@dataclass(frozen=True)
class Run:
    """One sweep on disk. `path` is its folder; everything else is read from there when asked for."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def about(self) -> dict[str, Any]:
        """run.json: spec, axes, number of cells, when, on what."""
        try:
            return json.loads((self.path / "run.json").read_text())
        except (OSError, ValueError) as error:
            raise BadRun(f"{self.path} is not a whole run ({error}); sweep again.") from None

    @property
    def axes(self) -> dict[str, list[Any]]:
        return self.about["spec"]["axes"]

    def records(self) -> list[dict[str, Any]]:
        """The newest record of every cell that has one, in the order of the cells."""
        newest = {line["cell"]: line for line in read_lines(self.journal) if line["kind"] == "cell"}
        return [newest[cell] for cell in sorted(newest)]

    @property
    def journal(self) -> Path:
        """One JSON line per finished stage and cell (`kind` says which), and for what happened to the run as a whole."""
        return self.path / "journal.jsonl"

    def append(self, kind: str, line: dict[str, Any]) -> None:
        """Add a line to the journal; it is on disk when this returns."""
        append_line(self.journal, {"kind": kind, **line})

    def batch(self) -> dict[str, int] | None:
        """{stage: pictures in a UNet batch} as this run has them now; None before it has started."""
        sizes = [line["size"] for line in read_lines(self.journal) if line["kind"] == "batch"]
        return sizes[-1] if sizes else None

    def picture(self, record: dict[str, Any]) -> Path:
        return self.path / record["picture"]

    def states(self) -> dict[str, int]:
        """How many cells are done, no_face, failed and to_do; face_too_small and not_measured where there are any; of a
        search also left_out: those it did not ask for."""
        records, search = self.records(), self.search()
        counts = {state: sum(r["status"] == state for r in records) for state in (*DONE, "failed")}
        rare = {state for state in ("face_too_small", "not_measured") if not counts[state]}
        known = {state: n for state, n in counts.items() if state not in rare}
        left = self.about["cells"] - len(records)
        if search is None:
            return {**known, "to_do": left}
        asked = len(set(search["cells"]) - {record["cell"] for record in records})
        return {**known, "to_do": asked, "left_out": left - asked}

    def search(self) -> dict[str, Any] | None:
        """What a search chose last and why, with the state of every setting; None for a grid, or before it has begun."""
        path = self.path / "search.json"
        return json.loads(path.read_text()) if path.exists() else None

    def score_version(self) -> str:
        """The one version of the sharpness that all cells have. Raises `MixedScores`: versions do not compare."""
        said = (record.get("scores", {}).get("versions", {}).get("sharpness") for record in self.records())
        versions = sorted({version for version in said if version})
        if len(versions) > 1:
            raise MixedScores(
                f"the cells of {self.id} were scored by {' and '.join(versions)}, which do not compare; run the sweep "
                "again: its pictures are kept, and those with the older score are scored anew."
            )
        return versions[0] if versions else SHARPNESS.version

    def table(self) -> pd.DataFrame:
        """One row per recorded cell: cell, status, reason, the settings, the scores (NaN: not measured), picture hash."""
        import pandas as pd

        columns = [
            "cell",
            "status",
            "reason",
            *Settings.model_fields,
            *SCORE_COLUMNS,
            "flags",
            "seconds",
            "picture",
            "pixels_sha256",
        ]
        rows = [
            {
                **{name: record.get(name) for name in columns if name in record},
                **record["settings"],
                **{name: record.get("scores", {}).get(name) for name in SCORE_COLUMNS},
                "flags": ", ".join(record.get("scores", {}).get("flags", [])),
            }
            for record in self.records()
        ]
        return pd.DataFrame(rows, columns=pd.Index(columns)).astype(dict.fromkeys(MEASURES, float))

    def identical(self) -> list[str]:
        """Sentences on axis values whose pictures are the same to the last pixel, whatever the other axes say."""
        spec, found = self.about["spec"], []
        pictures = {record["cell"]: record for record in self.records() if record["status"] in DONE}
        hashes = {cell: record["pixels_sha256"] for cell, record in pictures.items()}
        sizes = [len(spec["prompts"]), len(spec["seeds"]), *map(len, spec["axes"].values())]
        for place, (name, values) in enumerate(spec["axes"].items(), start=2):
            for group in alike(hashes, sizes, place):
                if len(group) == 1:
                    continue
                status = {r["status"] for cell, r in pictures.items() if _digit(cell, sizes, place) in group}
                if status:  # nothing was made of values that a search has left out
                    said = listed([values[i] for i in group])
                    no_face = " (no face was found)" * (status == {"no_face"})
                    found.append(
                        f"{name} {said} gave pixel-identical pictures{no_face}: they cannot be ranked against each other."
                    )
        return found

    def summary(self, *, merged: bool = True) -> pd.DataFrame:
        """One row per setting combination (index: the swept settings), over prompts and seeds, best first.

        Columns: n (cells with a sharpness), mean, sd (sample standard deviation; NaN below two), missing (cells that
        failed or show no face), not_run (cells that have no record: a search leaves many out), flagged (cells with a
        flag that blocks promotion), same (settings that gave the very same pictures and so are not ranked: the first of
        them stands for all; `merged=False` lists each). Raises `MixedScores`.
        """
        import pandas as pd

        self.score_version()

        table, axes = self.table(), swept(self.axes)
        table["one"] = 0  # a run without axes still has one combination
        by = axes or ["one"]
        spec = self.about["spec"]
        blocks = len(spec["prompts"]) * len(spec["seeds"])
        grouped = table.groupby(by, sort=False)["sharpness"]
        rows = pd.DataFrame(
            {
                "n": grouped.count(),
                "mean": grouped.mean(),
                "sd": grouped.std(),
                "missing": grouped.size() - grouped.count(),
                "not_run": blocks - grouped.size(),
                "flagged": table["flags"].map(_blocks).groupby([table[name] for name in by], sort=False).sum(),
            }
        )
        rows["same"] = ""
        for group in _same_pictures(table, by) if merged else ():
            rows.loc[[group[0]], "same"] = _differences(group, axes)
            rows = rows.drop(index=group[1:])
        # means over other prompts and seeds do not compare: whole settings come first
        order = ["not_run", "missing", "mean"]
        return rows.sort_values(order, ascending=[True, True, False], kind="stable")


BLOCKING = {measure.flag for measure in MEASURES.values() if measure.flag and measure.blocks}


def _blocks(flags: str) -> bool:
    """Whether one of a cell's flags keeps its setting from being promoted."""
    return not BLOCKING.isdisjoint(flags.split(", "))


def _same_pictures(table: Any, by: list[str]) -> list[list[Any]]:
    """Groups of setting combinations (as the table's index has them) that gave equal pictures on every prompt and seed."""
    groups: dict[Any, list[Any]] = {}
    for combination, cells in table.groupby(by if len(by) > 1 else by[0], sort=False):
        pictures = [(row.prompt, row.seed, row.pixels_sha256) for row in cells.itertuples()]
        # a failed cell has no picture, which is equal to nothing
        whole = all(isinstance(picture, str) for _, _, picture in pictures)
        groups.setdefault(tuple(sorted(pictures)) if whole else combination, []).append(combination)
    return [group for group in groups.values() if len(group) > 1]


def _differences(group: list[Any], names: list[str]) -> str:
    """In what combinations differ, in words: "weight 0.2 = 0.6 = 1"."""
    rows = [row if isinstance(row, tuple) else (row,) for row in group]
    values = {name: list(dict.fromkeys(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return ", ".join(f"{name} {' = '.join(map(plain, v))}" for name, v in values.items() if len(v) > 1)


def swept(axes: dict[str, list[Any]]) -> list[str]:
    """The settings that axes vary; `cfg` varies two, "width+height" those that vary together."""
    names = [name for axis in axes for name in axis.split("+")]
    return [name for n in names for name in (("base_cfg", "refine_cfg") if n == "cfg" else (n,))]


def plain(value: Any) -> str:
    """An axis value in words; 768/512 for settings that vary together."""
    if isinstance(value, list | tuple):
        return "/".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def listed(values: list[Any]) -> str:
    texts = [plain(value) for value in values]
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]


def _digit(cell: int, sizes: list[int], place: int) -> int:
    """Which value of the axis at `place` a cell has; the last axis runs fastest."""
    return cell // math.prod(sizes[place + 1 :]) % sizes[place]


def alike(pictures: dict[int, str], sizes: list[int], place: int) -> list[list[int]]:
    """The values (by number) of the axis at `place`, in groups that give equal pictures whatever the other axes say.

    `pictures`: {cell: what identifies its picture}; cells that are not there are equal to those that are not there.
    """
    inner = math.prod(sizes[place + 1 :])
    columns: list[dict[int, str]] = [{} for _ in range(sizes[place])]
    for cell, picture in pictures.items():
        value = cell // inner % sizes[place]
        columns[value][cell - value * inner] = picture
    groups: dict[frozenset[tuple[int, str]], list[int]] = {}
    for value, column in enumerate(columns):
        groups.setdefault(frozenset(column.items()), []).append(value)
    return list(groups.values())


def runs_folder() -> Path:
    return home() / "runs"


def list_runs() -> list[Run]:
    """All runs, newest first."""
    folders = [p.parent for p in runs_folder().glob("*/run.json")]
    return [Run(p) for p in sorted(folders, key=lambda p: (p / "run.json").stat().st_mtime, reverse=True)]


def find_run(which: Run | str | Path) -> Run:
    """A run by its id, the unique start or end of one, `latest`, or its folder."""
    if isinstance(which, Run):
        return which
    if (Path(which) / "run.json").is_file():
        return Run(Path(which).resolve())
    runs = list_runs()
    if which == "latest" and runs:
        return runs[0]
    matches = [run for run in runs if run.id == str(which)] or [
        run for run in runs if run.id.startswith(str(which)) or run.id.endswith(str(which))
    ]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(run.id for run in runs[:8]) or "none yet; start one with workbench sweep SPEC"
    raise RunNotFound(f"{len(matches) or 'no'} runs are named '{which}'; there are: {known}.")


def begun_run(spec_hash: str) -> Run | None:
    """The run of this very spec, if it was begun."""
    known = sorted(runs_folder().glob(f"*-{spec_hash[:8]}/run.json"))
    return Run(known[0].parent) if known else None


def open_run(name: str, spec: dict[str, Any], spec_hash: str, cells: int) -> Run:
    """The run of this very spec: the one begun before, or a new folder `<date>-<name>-<hash>`."""
    if begun := begun_run(spec_hash):
        return begun
    now = datetime.now().astimezone()
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "sweep"
    run = Run(runs_folder() / f"{now:%Y-%m-%d}-{slug}-{spec_hash[:8]}")
    about = {"format": 1, "name": name, "created": now.isoformat(timespec="seconds"), "spec": spec, "cells": cells}
    write_json(run.path / "run.json", {**about, "environment": environment()})
    return run


def environment() -> dict[str, Any]:
    """Versions that a result depends on."""
    found = {}
    for library in RECORDED_LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = None
    return {"python": platform.python_version(), "machine": platform.machine(), "libraries": found}
