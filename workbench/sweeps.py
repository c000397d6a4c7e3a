"""Runs a planned sweep: stage by stage, equal work once, one durable record per cell.

Cells are ordered with the earliest stage outermost; every job has a content key, so a sweep that was interrupted, or
one that overlaps an older one, only does what is not in the store.
"""

from __future__ import annotations

import fcntl
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from . import report, runs, scores
from .files import DiskFull, hash_json, home, write_atomic, write_json, writing
from .images import pixels_sha256, png_bytes, save_picture
from .pipeline import Bench, bench
from .plans import Cell, Plan, Spec, plan
from .runs import Run
from .settings import STAGES, Cancelled, CorruptWeights, MissingWeights, Settings, UsageError, WorkbenchError
from .stages import unet_evaluations
from .store import Artefact

ABORTS = (DiskFull, MissingWeights, CorruptWeights, Cancelled, UsageError)  # not one cell's fault: the sweep stops


class RunBusy(WorkbenchError):
    """Another process is working on this run."""


class Progress:
    """One bar for a whole sweep, with an ETA from the measured seconds of each stage, this run's or earlier ones'."""

    def __init__(self, jobs: dict[str, float], total: int, rates_file: Path, *, quiet: bool = False) -> None:
        """`jobs`: {stage: work left in `work_units`}; `total`: number of jobs; rates are kept in `rates_file`."""
        self._left = dict(jobs)
        self._file = rates_file
        self._rates: dict[str, float] = json.loads(rates_file.read_text()) if rates_file.exists() else {}
        self._spent: dict[str, tuple[float, float]] = {}
        # a log file keeps every redrawn bar as a line, so it gets fewer
        self._every = 0.1 if sys.stderr.isatty() else 1.0
        self._drawn = 0.0
        layout = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} jobs [{elapsed}{postfix}]"
        self.bar = tqdm(total=total, disable=quiet or not total, bar_format=layout, mininterval=self._every)

    def step(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self._drawn >= self._every:
            self._drawn = time.monotonic()
            self.bar.set_description_str(f"{stage:<7}", refresh=False)
            self.bar.set_postfix_str(f"step {done}/{total}, ETA {self.eta()}")

    def finish(self, stage: str, units: float, seconds: float | None) -> None:
        """A job has ended; `seconds` is None where nothing was measured (it failed, or was made before)."""
        if seconds:
            used, took = self._spent.get(stage, (0.0, 0.0))
            self._spent[stage] = (used + units, took + seconds)
            self._rates[stage] = (took + seconds) / (used + units)
        self._left[stage] = max(0.0, self._left[stage] - units)
        self.bar.update(1)

    def eta(self) -> str:
        """Time left in words; a stage that was never timed on this machine makes it a lower bound."""
        known = sum(units * self._rates[s] for s, units in self._left.items() if s in self._rates)
        unknown = any(units and s not in self._rates for s, units in self._left.items())
        return f"{'at least ' if unknown else ''}{tqdm.format_interval(known)}"

    def close(self) -> None:
        self.bar.close()
        if self._spent:
            write_json(self._file, self._rates)


def work_units(stage: str, s: Settings) -> float:
    """Size of a job in the unit its time grows with."""
    width, height = (s.width, s.height) if stage == "base" or not s.hires else s.hires_size
    return width * height / 1e6 * max(1, unet_evaluations(stage, s))


def sweep(
    spec: Spec | dict[str, Any] | str | Path,
    *,
    on: Bench | None = None,
    retry_failed: bool = False,
    quiet: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Run:
    """Run a sweep to its end, or go on with the one of the same spec that was interrupted.

    `check` is called within every denoising step; raising from it (say `Cancelled`) stops there and keeps all that is
    finished. Raises what `plan` raises, `DiskFull`, `RunBusy`; a cell that fails is a record, not an error.
    """
    on = on or bench()
    planned = plan(spec, on.store)
    run = runs.open_run(
        planned.spec.name,
        {**planned.resolved, "name": planned.spec.name},
        hash_json(planned.resolved),
        len(planned.cells),
    )
    with _holding(run):
        begun = on.counters()
        try:
            _execute(run, planned, on, retry_failed, quiet, check)
        finally:
            ran = on.counters()
            executed = {group: {n: v - begun[group][n] for n, v in now.items()} for group, now in ran.items()}
            write_json(
                run.path / "last_session.json", {**planned.to_json(), "executed": executed, "run": str(run.path)}
            )
        table: Any = run.table()
        write_atomic(run.path / "table.csv", table.to_csv(index=False).encode())
        write_atomic(run.path / "contact_sheet.png", png_bytes(report.sheet(run)))
        if table["sharpness"].notna().any():
            report.heat_map(run, run.path / "heat_map.png")
    return run


def last_session(run: Run) -> dict[str, Any]:
    """The plan of the last call of `sweep` on this run, with what it really executed."""
    return json.loads((run.path / "last_session.json").read_text())


@contextmanager
def _holding(run: Run) -> Iterator[None]:
    with writing(run.path), open(run.path / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusy(
                f"another process is working on {run.id}; wait for it, or look on with workbench runs show {run.id}."
            ) from None
        yield


def _execute(run: Run, planned: Plan, on: Bench, retry_failed: bool, quiet: bool, check: Callable[[], None]) -> None:
    records = {record["cell"]: record for record in run.records()}
    todo = [cell for cell in planned.cells if not _finished(run, cell, records.get(cell.index), retry_failed)]
    wanted = _missing_jobs(todo, on)
    left = {stage: sum(work_units(stage, cell.settings) for cell in jobs.values()) for stage, jobs in wanted.items()}
    left["scores"] = len(todo)
    total = sum(map(len, wanted.values())) + len(todo)
    progress = Progress(left, total, home() / "store" / "seconds_per_unit.json", quiet=quiet)
    failed: dict[str, tuple[str, str]] = {}  # key -> (reason, traceback)

    def step(stage: str, done: int, total: int) -> None:
        check()
        progress.step(stage, done, total)

    def ensure(cell: Cell, stage: str) -> Artefact:
        """The artefact of a cell's stage, its inputs made again where the store has lost them."""
        names = list(cell.keys)
        before = names[names.index(stage) - 1] if stage != names[0] else None
        found = on.store.get(cell.keys[stage])
        return found or on.run_stage(
            stage, cell.keys[stage], cell.settings, ensure(cell, before) if before else None, step
        )

    try:
        for stage, jobs in wanted.items():
            for key, cell in jobs.items():
                inputs = [k for s, k in cell.keys.items() if STAGES.index(s) < STAGES.index(stage)]
                bad = next((failed[k] for k in inputs if k in failed), None)
                seconds = None
                if bad is None:
                    try:
                        seconds = ensure(cell, stage).seconds
                    except ABORTS:
                        raise
                    except Exception as error:  # this cell's record says why; the others go on
                        bad = (f"{stage}: {error or type(error).__name__}", traceback.format_exc())
                if bad is not None:
                    failed[key] = bad
                progress.finish(stage, work_units(stage, cell.settings), seconds)
        for done, cell in enumerate(todo, start=1):
            check()
            progress.step("scores", done, len(todo))
            started = time.perf_counter()
            bad = next((failed[key] for key in cell.keys.values() if key in failed), None)
            try:
                record = _failed(cell, *bad) if bad else _done(run, cell, ensure)
            except ABORTS:
                raise
            except Exception as error:
                record = _failed(cell, f"scores: {error or type(error).__name__}", traceback.format_exc())
            run.append(record)
            progress.finish("scores", 1, time.perf_counter() - started)
    finally:
        progress.close()


def _missing_jobs(cells: list[Cell], on: Bench) -> dict[str, dict[str, Cell]]:
    """{stage: {key: cell}} of what is not in the store; inputs of what is there are not needed."""
    wanted: dict[str, dict[str, Cell]] = {stage: {} for stage in STAGES}
    for cell in cells:
        for stage, key in reversed(cell.keys.items()):
            if key in on.store:
                break
            wanted[stage].setdefault(key, cell)
    return wanted


def _finished(run: Run, cell: Cell, record: dict[str, Any] | None, retry_failed: bool) -> bool:
    """Whether a cell's record still holds: same content key (a changed model file changes it), picture in place."""
    if record is None or record["key"] != cell.key:
        return False
    if record["status"] == "failed":
        return not retry_failed
    if record["scores"]["versions"] != scores.versions():  # scored by an older version: the picture is still good
        return False
    return run.picture(record).exists()


def _about(cell: Cell) -> dict[str, Any]:
    return {"cell": cell.index, "key": cell.key, "keys": cell.keys, "settings": cell.settings.model_dump()}


def _failed(cell: Cell, reason: str, trace: str) -> dict[str, Any]:
    return {**_about(cell), "status": "failed", "reason": reason, "traceback": trace}


def _done(run: Run, cell: Cell, ensure: Callable[[Cell, str], Artefact]) -> dict[str, Any]:
    """Score and save a cell's picture; its record."""
    names = list(cell.keys)
    final = ensure(cell, names[-1])
    unrestored = ensure(cell, names[names.index("faces") - 1]).image if "faces" in names else final.image
    status, measured = scores.cell_scores(final.image, unrestored)
    picture = f"pictures/{cell.index:04d}.png"
    save_picture(run.path / picture, final.image, cell.settings, keys=cell.keys)
    return {
        **_about(cell),
        "status": "done" if status in scores.SCORED else status,
        "reason": None,
        "scores": measured,
        "picture": picture,
        "pixels_sha256": pixels_sha256(final.image),
        "seconds": round(final.seconds, 3),
    }
