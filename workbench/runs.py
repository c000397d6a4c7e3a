"""A sweep's run on disk: one folder, one durable record per cell, read back as a DataFrame.

`run.json` says what was asked, `cells.jsonl` grows by one line per finished cell (the last line of a cell counts),
`pictures/` holds the finished pictures. Nothing here knows torch.
"""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import append_line, home, read_lines, write_json
from .measures import MEASURES, SHARPNESS
from .settings import Settings, UsageError

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


class RunNotFound(UsageError):
    """No run of that name."""


class MixedScores(UsageError):
    """The cells of a run were scored by different versions of a score."""


class BadRun(UsageError):
    """A folder that is no run, or whose run.json is damaged."""


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
        newest = {record["cell"]: record for record in read_lines(self.path / "cells.jsonl")}
        return [newest[cell] for cell in sorted(newest)]

    def append(self, record: dict[str, Any]) -> None:
        append_line(self.path / "cells.jsonl", record)

    def picture(self, record: dict[str, Any]) -> Path:
        return self.path / record["picture"]

    def states(self) -> dict[str, int]:
        """How many cells are done, no_face, failed and to_do; face_too_small and not_measured where there are any."""
        records = self.records()
        counts = {state: sum(r["status"] == state for r in records) for state in (*DONE, "failed")}
        rare = {state for state in ("face_too_small", "not_measured") if not counts[state]}
        return {state: n for state, n in counts.items() if state not in rare} | {
            "to_do": self.about["cells"] - len(records)
        }

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

    def summary(self) -> pd.DataFrame:
        """One row per setting combination (index: the swept settings), over prompts and seeds, best first.

        Columns: n (cells with a sharpness), mean, sd (sample standard deviation; NaN below two), missing (cells that
        failed or show no face), flagged (cells with a flag that blocks promotion). Raises `MixedScores`.
        """
        import pandas as pd

        self.score_version()

        table, axes = self.table(), swept(self.axes)
        table["one"] = 0  # a run without axes still has one combination
        by = axes or ["one"]
        grouped = table.groupby(by, sort=False)["sharpness"]
        rows = pd.DataFrame(
            {
                "n": grouped.count(),
                "mean": grouped.mean(),
                "sd": grouped.std(),
                "missing": grouped.size() - grouped.count(),
                "flagged": table["flags"].map(_blocks).groupby([table[name] for name in by], sort=False).sum(),
            }
        )
        return rows.sort_values(["missing", "mean"], ascending=[True, False], kind="stable")


BLOCKING = {measure.flag for measure in MEASURES.values() if measure.flag and measure.blocks}


def _blocks(flags: str) -> bool:
    """Whether one of a cell's flags keeps its setting from being promoted."""
    return not BLOCKING.isdisjoint(flags.split(", "))


def swept(axes: dict[str, list[Any]]) -> list[str]:
    """The settings that axes vary; `cfg` varies two."""
    return [name for axis in axes for name in (("base_cfg", "refine_cfg") if axis == "cfg" else (axis,))]


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


def open_run(name: str, spec: dict[str, Any], spec_hash: str, cells: int) -> Run:
    """The run of this very spec: the one begun before, or a new folder `<date>-<name>-<hash>`."""
    known = sorted(runs_folder().glob(f"*-{spec_hash[:8]}/run.json"))
    if known:
        return Run(known[0].parent)
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
