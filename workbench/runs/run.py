"""A sweep's run on disk: one folder, one durable record per cell, read back as a DataFrame.

`run.json` says what was asked, `journal.jsonl` grows by one line per finished stage and cell (the last line of a cell
counts), `pictures/` holds the finished pictures. Nothing here knows torch.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import BadRun, MixedScores, OddFile, RunNotFound
from workbench.files import append_line, home, odd_lines, read_lines, read_typed, write_json
from workbench.scores import MEASURES, SHARPNESS
from workbench.settings import before, item_of, knobs, weight_of

from .axes import listed, swept
from .identical import by_block, repeated, same_prompts, same_values
from .records import (
    ABOUT,
    DONE,
    SEARCH,
    About,
    AxisValue,
    Environment,
    JsonObject,
    Record,
    SearchState,
    SettingValues,
    journal_line,
)

if TYPE_CHECKING:
    import pandas as pd

RECORDED_LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "torchsde",
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
    def about(self) -> About:
        """run.json: spec, axes, number of cells, when, on what."""
        try:
            return read_typed(self.path / "run.json", ABOUT)
        except (OddFile, FileNotFoundError) as error:
            raise BadRun(
                f"{self.path} is no whole run: {str(error).rstrip('.')}; run the same sweep again, which writes the file "
                "anew and goes on, or move the folder away."
            ) from None

    @property
    def created(self) -> datetime:
        """When it was begun, as the run itself says: the times of its files are others in a copy. Raises `BadRun`."""
        return datetime.fromisoformat(self.about["created"]).astimezone()

    @property
    def axes(self) -> dict[str, list[AxisValue]]:
        """{axis: its values}; an axis of settings that vary together is named like "width+height"."""
        return self.about["spec"]["axes"]

    def records(self) -> list[Record]:
        """The newest record of every cell that has one, in the order of the cells.

        Its settings are whole: what was added later is what it was then, and an axis such as "lora:detail" is there by its
        name.
        """
        newest: dict[int, Any] = {line["cell"]: line for line in self.lines("cell")}
        for line in newest.values():
            line["settings"] = self._whole(line["settings"])
        return [newest[cell] for cell in sorted(newest)]

    def _whole(self, settings: SettingValues) -> SettingValues:
        whole = {**before(), **settings}
        if any(knob.items and whole.get(name) for name, knob in knobs().items()):
            listed = {name: item for name in swept(self.axes) if (item := item_of(name))}
            whole |= {name: weight_of(whole[which], item) for name, (which, item) in listed.items()}
        return whole

    def lines(self, kind: str) -> list[JsonObject]:
        """The lines of the journal of a kind, oldest first: "cell", "stage", "batch" or "machine"."""
        return [line for line in read_lines(self.journal, journal_line) if line["kind"] == kind]

    def peak_memory(self) -> dict[str, int]:
        """{stage: the most bytes of the GPU that a job of it took}, of the stages of which it was measured; none on a CPU."""
        found: dict[str, int] = {}
        for line in self.lines("stage"):
            if "memory_bytes" in line:
                found[line["stage"]] = max(found.get(line["stage"], 0), line["memory_bytes"])
        return found

    def problems(self) -> list[str]:
        """Sentences on what of the run's files cannot be read, and is left out."""
        found = []
        if odd := odd_lines(self.journal, journal_line):
            found.append(
                f"{self.journal} has {odd} line{'s' * (odd > 1)} of another shape, left out; cells are made again."
            )
        try:
            self._search()
        except OddFile as error:
            found.append(f"{str(error).rstrip('.')}; the sweep, run again, writes it anew.")
        return found

    @property
    def journal(self) -> Path:
        """One JSON line per finished stage and cell (`kind` says which), and for what happened to the run as a whole."""
        return self.path / "journal.jsonl"

    def append(self, kind: str, line: Mapping[str, object]) -> None:
        """Add a line to the journal; it is on disk when this returns."""
        append_line(self.journal, {"kind": kind, **line})

    def batch(self) -> dict[str, int] | None:
        """{stage: pictures in a UNet batch} as this run has them now; None before it has started."""
        sizes = [line["size"] for line in self.lines("batch")]
        return sizes[-1] if sizes else None

    def picture(self, record: Record) -> Path:
        """The finished picture of a cell that has one."""
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

    def search(self) -> SearchState | None:
        """What a search chose last and why, with the state of every setting; None for a grid, before it has begun, or where
        its file cannot be read."""
        try:
            return self._search()
        except OddFile:  # `problems` says so
            return None

    def _search(self) -> SearchState | None:
        try:
            return read_typed(self.path / "search.json", SEARCH)
        except FileNotFoundError:
            return None

    def score_version(self) -> str:
        """The one version of the sharpness that all cells have.

        Raises `MixedScores`: versions do not compare, nor do cells that were not looked at by a guard with those that were.
        """
        said = (record.get("scores", {}).get("versions", {}).get("sharpness") for record in self.records())
        versions = sorted({version for version in said if version})
        if len(versions) > 1:
            raise MixedScores(
                f"the cells of {self.id} were scored by {' and '.join(versions)}, which do not compare; run the sweep "
                "again: its pictures are kept, and those with the older score are scored anew."
            )
        if lacking := self._unguarded():
            raise MixedScores(
                f"some cells of {self.id} were scored before there was the guard {lacking[0]}, which others have: they are "
                "not clean, only not looked at; run the sweep again: its pictures are kept, and those are scored anew."
            )
        return versions[0] if versions else SHARPNESS.version

    def _unguarded(self) -> list[str]:
        """The guards that an older score of some cells did not have, while others were scored with them."""
        known = [set(said) for r in self.records() if len(said := r.get("scores", {}).get("versions", {})) > 1]
        some, every = set().union(*known), set(MEASURES).intersection(*known)
        return [name for name, measure in MEASURES.items() if measure.flag and name in some - every]

    def table(self) -> pd.DataFrame:
        """One row per recorded cell: cell, status, reason, the settings, the scores (NaN: not measured), picture hash."""
        from .tables import cell_table

        return cell_table(self)

    def identical(self) -> list[str]:
        """Sentences on axis values whose pictures are the same to the last pixel, whatever the other axes say."""
        spec, found = self.about["spec"], []
        status = {record["cell"]: record["status"] for record in self.records()}
        pictures = {record["cell"]: record["pixels_sha256"] for record in self.records() if record["status"] in DONE}
        for axis, values, cells in same_values(pictures, len(spec["prompts"]) * len(spec["seeds"]), spec["axes"]):
            no_face = " (no face was found)" if {status[cell] for cell in cells} == {"no_face"} else ""
            found.append(
                f"{axis} {listed(values)} gave pixel-identical pictures{no_face}: they cannot be ranked against each other."
            )
        prompts, seeds = len(spec["prompts"]), len(spec["seeds"])
        for group in same_prompts(pictures, prompts, seeds, spec["axes"]):
            found.append(f"prompts {listed([n + 1 for n in group])} gave pixel-identical pictures: they count once.")
        return found

    def repeated_blocks(self) -> dict[int, int]:
        """{a block, of one prompt and seed: an earlier one that shows the same pictures}; each counts once."""
        pictures = {record["cell"]: record["pixels_sha256"] for record in self.records() if record["status"] in DONE}
        return repeated(by_block(pictures, self.axes))

    def repeated_cells(self) -> set[int]:
        """The cells whose setting has the very same picture in an earlier block: of equal pictures one counts."""
        pictures = {record["cell"]: record["pixels_sha256"] for record in self.records() if record["status"] in DONE}
        seen: set[tuple[int, str]] = set()
        found = set()
        inner = math.prod(map(len, self.axes.values()))
        for cell, picture in sorted(pictures.items()):
            if (cell % inner, picture) in seen:
                found.add(cell)
            seen.add((cell % inner, picture))
        return found

    def summary(self, *, merged: bool = True) -> pd.DataFrame:
        """One row per setting combination (index: the swept settings), over prompts and seeds, best first.

        Equal pictures of one setting, as two prompts that read alike give them, count once. Columns: n (cells with a
        sharpness), mean, sd (sample standard deviation; NaN below two), missing (cells that
        failed or show no face), not_run (cells that have no record: a search leaves many out), flagged (cells with a
        flag that blocks promotion), same (settings that gave the very same pictures and so are not ranked: the first of
        them stands for all; `merged=False` lists each). Raises `MixedScores`.
        """
        from .tables import setting_table

        return setting_table(self, merged=merged)


def runs_folder() -> Path:
    return home() / "runs"


def list_runs() -> list[Run]:
    """All runs that can be read, newest first, by the time at which each says that it was begun."""
    whole = [(begun, run) for run in _all_runs() if (begun := _begun(run))]
    return [run for _, run in sorted(whole, key=lambda pair: pair[0], reverse=True)]


def broken_runs() -> list[tuple[Run, str]]:
    """(run, what is wrong with it in a sentence) of those whose run.json cannot be read."""
    found = []
    for run in _all_runs():
        try:
            _ = run.about
        except BadRun as error:
            found.append((run, str(error)))
    return found


def _all_runs() -> list[Run]:
    return [Run(path.parent) for path in sorted(runs_folder().glob("*/run.json"))]


def _begun(run: Run) -> datetime | None:
    try:
        return run.created
    except BadRun:
        return None


def find_run(which: Run | str | Path) -> Run:
    """A run by its id, the unique start or end of one, `latest`, or its folder. Raises `RunNotFound`."""
    if isinstance(which, Run):
        return which
    if (Path(which) / "run.json").is_file():
        return Run(Path(which).resolve())
    runs = list_runs() if which == "latest" else _all_runs()
    if which == "latest" and runs:
        return runs[0]
    matches = [run for run in runs if run.id == str(which)] or [
        run for run in runs if run.id.startswith(str(which)) or run.id.endswith(str(which))
    ]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(run.id for run in list_runs()[:8]) or "none yet; start one with workbench sweep SPEC"
    raise RunNotFound(f"{len(matches) or 'no'} runs are named '{which}'; there are: {known}.")


def begun_run(spec_hash: str) -> Run | None:
    """The run of this very spec, if it was begun."""
    known = sorted(runs_folder().glob(f"*-{spec_hash[:8]}/run.json"))
    return Run(known[0].parent) if known else None


def open_run(name: str, spec: Mapping[str, object], spec_hash: str, cells: int) -> Run:
    """The run of this very spec: the one begun before, or a new folder `<date>-<name>-<hash>`.

    Where run.json of the one begun before cannot be read, it is written anew: the spec says what was in it.

    `spec` is a `RunSpec`, kept in run.json.
    """
    begun, now = begun_run(spec_hash), datetime.now().astimezone()
    if begun and _begun(begun):
        return begun
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "sweep"
    run = begun or Run(runs_folder() / f"{now:%Y-%m-%d}-{slug}-{spec_hash[:8]}")  # begun: its run.json is written anew
    about = {
        "format": 1,
        "name": name,
        "created": now.isoformat(),
        "spec": spec,
        "cells": cells,
        "environment": environment(),
    }
    write_json(run.path / "run.json", about)
    return run


def environment() -> Environment:
    """Versions that a result depends on."""
    found = {}
    for library in RECORDED_LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = None
    return {"python": platform.python_version(), "machine": platform.machine(), "libraries": found}
