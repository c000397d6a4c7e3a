"""Runs a planned sweep, alone or beside other processes. It may be stopped at any moment, and the same call goes on.

A finished stage is a picture under its content key and a line in the run's journal; so is a finished cell. Both are written
whole or not at all, and what is there is never done again.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import IO, TypedDict

from tqdm.auto import tqdm

from workbench.errors import Cancelled, RecordLost, RunBusy, SmallerBatch
from workbench.files import LineReader, png_bytes, write_atomic, write_json, writing
from workbench.recipe import Bench, batch_of, bench, stage_keys
from workbench.report import heat_maps, sheet
from workbench.runs import JsonObject, Record, Run, begun_run, open_run as open_run_of
from workbench.settings import Settings, stages
from workbench.store import Store
from workbench.sweeps.search import Grid, choose, outcome

from .board import Board, Claims
from .costs import Costs, work_units
from .engine import Engine
from .graph import Graph
from .local_workers import complaints, helping, how_many
from .memory import auto_batch
from .planning import Cell, Plan, plan
from .progress import Progress
from .recording import Recorder
from .spec import AnySpec
from .winners import enlarge


def sweep(
    spec: AnySpec,
    *,
    on: Bench | None = None,
    retry_failed: bool = False,
    quiet: bool = False,
    check: Callable[[], None] = lambda: None,
    join: bool = False,
    workers: int | None = 1,
) -> Run:
    """Run a sweep to its end, or go on with the one of the same spec that was interrupted.

    `check` is called within every denoising step; raising from it (say `Cancelled`) stops there and keeps all that is
    finished. `join` helps a process that already works on this run instead of being refused. `workers`: processes on
    this machine, None: one per GPU. Raises what `plan` raises, `DiskFull`, `RunBusy`; a cell that fails is a record, not an
    error.
    """
    on = on or bench()
    planned, batch = prepare(spec, on.store)
    run = open_run(planned)
    keys = {key for cell in planned.cells for key in cell.keys.values()}
    with Holding(run, join) as holding, on.store.keeping(keys):
        before = _journal_size(run)
        session = Session(run, planned, batch, on, retry_failed=retry_failed, quiet=quiet, check=check)
        session.go(first=holding.first, workers=how_many(workers))
        if holding.first or holding.inherit():
            if _journal_size(run) != before or not (run.path / LAST_FILE).exists():
                finish(run)
            if planned.spec.upscale_winners:
                enlarge(run, planned, batch, on, check)
    return run


def open_run(planned: Plan) -> Run:
    """The run of this very spec: the one begun before, or a new one."""
    name = planned.spec.name
    return open_run_of(name, {**planned.resolved, "name": name}, planned.hash, len(planned.cells))


def prepare(spec: AnySpec, store: Store | None = None) -> tuple[Plan, dict[str, int]]:
    """(the plan, {stage: pictures in a UNet batch}) of a sweep as it would be run now. Changes nothing.

    A run that was begun keeps its batch, because another size gives other last bits. Otherwise the spec says it, or, where
    that says "auto", what fits into the device's free memory.
    """
    planned = plan(spec, store)
    run, asked = begun_run(planned.hash), planned.spec.batch_size
    begun = run.batch() if run else None
    if isinstance(asked, int):
        batch = begun or batch_of(asked)
        same = batch == batch_of(asked)
    else:
        batch = begun or auto_batch(cell.settings for cell in planned.cells)
        same = batch == batch_of()
    if not same:  # with the seeds that were drawn, where one is -1
        fixed = {name: value for name, value in planned.spec.fixed.items() if name != "seed"}
        drawn = planned.spec.model_copy(update={"seeds": planned.resolved["seeds"], "fixed": fixed})
        planned = replace(plan(drawn, store, batch=batch), resolved=planned.resolved, spec=planned.spec)
    return planned, batch


LAST_FILE = "contact_sheet.png"  # written last: where it is, the others are


def finish(run: Run) -> None:
    """Write what a run leaves behind for people: table, heat map, contact sheet."""
    (run.path / LAST_FILE).unlink(missing_ok=True)
    table = run.table()
    write_atomic(run.path / "table.csv", table.to_csv(index=False).encode())
    if len(table["sharpness"].dropna()):
        write_atomic(run.path / "heat_map.png", png_bytes(heat_maps(run)))
    write_atomic(run.path / LAST_FILE, png_bytes(sheet(run)))


def _journal_size(run: Run) -> int:
    return run.journal.stat().st_size if run.journal.exists() else 0


def last_session(run: Run) -> JsonObject:
    """The plan of the last call of `sweep` on this run, with what it really executed; {} before its first one has ended."""
    path = run.path / "last_session.json"
    return json.loads(path.read_text()) if path.exists() else {}


def stop(run: Run) -> None:
    """Ask whoever works on a run to stop: they do within one denoising step, and keep what is finished."""
    write_atomic(run.path / "stop", f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}\n".encode())


class Holding:
    """This process's hold on a run: as its first worker, or as one that joins the first.

    The first worker holds a lock on the run's file `lock`, and writes what a sweep leaves at its end.
    """

    def __init__(self, run: Run, join: bool) -> None:
        self._run, self._join = run, join
        self._file: IO[str] | None = None

    @property
    def first(self) -> bool:
        return self._file is not None

    def __enter__(self) -> Holding:
        if not self.inherit() and not self._join:
            raise RunBusy(
                f"{_holder(self._run)} is working on {self._run.id}; look on with workbench runs watch {self._run.id}, "
                f"end it with workbench runs stop {self._run.id}, or help it with --join."
            )
        if self.first:
            (self._run.path / "stop").unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def inherit(self) -> bool:
        """Become the first worker if there is none (any more)."""
        with writing(self._run.path):
            file = open(self._run.path / "lock", "a+")  # noqa: SIM115 (held as long as the run is)
        for _ in range(3):  # one who only looks (`holder`) has it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
        else:
            file.close()
            return False
        file.truncate(0)
        about = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now().isoformat(" ", "seconds")}
        file.write(json.dumps(about))
        file.flush()
        self._file = file
        return True


def _holder(run: Run) -> str:
    try:
        about = json.loads((run.path / "lock").read_text())
        return f"process {about['pid']} on {about['host']}, since {about['since']},"
    except (OSError, ValueError, KeyError):  # it has taken the lock, but not yet written who it is
        return "another process"


class Holder(TypedDict):
    """A process that works on a run."""

    pid: int
    host: str
    since: str  # local time


def holder(run: Run) -> Holder | None:
    """The process that works on a run now; None when nobody does."""
    try:
        with open(run.path / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return json.loads(file.read() or "{}")
    except FileNotFoundError:
        pass
    return None


class Session:
    """One process's work on a run: what is left to do, and how far it is."""

    def __init__(
        self,
        run: Run,
        planned: Plan,
        batch: dict[str, int],
        on: Bench,
        *,
        retry_failed: bool,
        quiet: bool,
        check: Callable[[], None],
    ) -> None:
        self.run, self.on, self.planned, self.quiet = run, on, planned, quiet
        self._check, self._looked = check, 0.0
        self._reader = LineReader(run.journal)
        self._records: dict[int, Record] = {}
        self._good: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._again: set[int] = set()
        self._read()
        self._again = {i for i, record in self._records.items() if record["status"] == "failed" and retry_failed}
        self.costs = Costs.at_home()
        self.progress: Progress | None = None
        self.batch = self._planned_batch = batch
        self.notes: list[str] = []
        self.elsewhere: dict[str, dict[str, int]] = {}  # what the workers of a cluster have run

    def go(self, *, first: bool, workers: int = 1) -> None:
        """Work until every cell is recorded, by this process or another.

        `first`: whether this is the run's first worker, which starts `workers` - 1 helpers and writes `last_session.json`.
        """
        begun, started = self.on.counters(), datetime.now().astimezone().isoformat(timespec="seconds")
        todo = self._todo()
        ray = self.planned.spec.executor == "ray"
        if todo and first and not ray and self.run.batch() is None:
            self.run.append("batch", {"size": self.batch})
        alone = not todo or not first or ray
        self.progress = Progress(self.costs, self.run.path / "status.json", quiet=self.quiet)
        state = "failed"
        try:
            with helping(self.run, self.planned.spec, 1 if alone else workers) as helpers:
                if ray and todo and first:
                    self._work_on_ray()
                else:
                    self._work_off(self._work)
            self.notes += complaints(self.run, helpers)
            state = "finished"
        except (KeyboardInterrupt, Cancelled):
            state = "stopped"
            raise
        finally:
            ran, begun = self.on.counters(), Counter(_flat(begun))
            executed = Counter(_flat(ran)) - begun + Counter(_flat(self.elsewhere))
            executed = {group: {name: executed[group, name] for name in now} for group, now in ran.items()}
            about = {"pid": os.getpid(), "started": started, "state": state, "executed": executed, "notes": self.notes}
            self.progress.close(state)
            if first:
                whole = {**self.planned.to_json(), **about, "batch": self.batch, "run": str(self.run.path)}
                write_json(self.run.path / "last_session.json", whole)

    def _todo(self) -> list[Cell]:
        """The cells to run now: those of the grid that are left, or those that a search asks for next."""
        plan, spec = self.planned, self.planned.spec
        self._read()
        if spec.strategy == "grid":
            return [cell for cell in plan.cells if not self.done(cell)]
        spec_now = plan.resolved
        grid = Grid.of(spec_now["axes"], spec_now["prompts"], spec_now["seeds"], [cell.key for cell in plan.cells])
        known = {
            cell.index: replace(outcome(self._records[cell.index]), seconds=_work_of(cell.settings))
            for cell in plan.cells
            if self.done(cell)
        }
        choice = choose(spec.strategy, grid, known, budget=spec.budget)
        states = [{"settings": grid.label(i), **state._asdict()} for i, state in enumerate(choice.states)]
        about = {"why": choice.why, "notes": choice.notes, "cells": list(choice.cells), "states": states}
        write_json(self.run.path / "search.json", {"strategy": spec.strategy, **about})
        return [plan.cells[i] for i in choice.cells]

    def _work_off(self, work: Callable[[list[Cell]], None]) -> None:
        """Give `work` the cells that are left, until none is: a search asks for more, and a batch may have to be halved."""
        todo = self._todo()
        while todo:
            assert self.progress
            self.progress.expect(_missing(todo, self.on), len(todo), self.batch)
            worked = {cell.index for cell in todo}
            try:
                work([self._keyed(cell) for cell in todo])
            except SmallerBatch as smaller:
                self._shrink(smaller)
                worked = set()
            todo = self._todo()
            if lost := sorted(worked & {cell.index for cell in todo}):
                raise RecordLost(
                    f"cells {lost[:5]} were worked on, but {self.run.path} has no whole record of them; see that nothing "
                    "else writes there, and run the same sweep again."
                )

    def _work_on_ray(self) -> None:
        from workbench.sweeps.cluster import Workers

        def work(cells: list[Cell]) -> None:
            workers.work(cells, Recorder(self.run, self.batch), self, batch=self.batch, check=self.check)

        with Workers(self.on.store) as workers:
            settings = [cell.settings for cell in self.planned.cells]
            if not self.run.batch():
                if self.planned.spec.batch_size == "auto":
                    self.batch = workers.ask(auto_batch, settings)
                self.run.append("batch", {"size": self.batch})
            # their device makes the pixels, so it makes the keys
            keys = workers.ask(keys_of, settings, self.batch)
            cells = [replace(cell, keys=own) for cell, own in zip(self.planned.cells, keys, strict=True)]
            self.planned, self._planned_batch = replace(self.planned, cells=cells), self.batch
            self._good.clear()
            try:
                self._work_off(work)
            finally:
                self.elsewhere = workers.counters()

    def _work(self, cells: list[Cell]) -> None:
        board = Board(Claims(self.run.path / "claims"), Graph(cells), self.unrecorded, self.on.store.__contains__)
        Engine(self.on, board, Recorder(self.run, self.batch), self, batch=self.batch, check=self.check).run()

    def _keyed(self, cell: Cell) -> Cell:
        if self.batch == self._planned_batch:
            return cell
        return Cell(cell.index, cell.settings, stage_keys(cell.settings, self.batch))

    def _shrink(self, smaller: SmallerBatch) -> None:
        self.batch = {**self.batch, smaller.stage: smaller.size}
        self.run.append("batch", {"size": self.batch, "why": str(smaller)})
        self.notes.append(str(smaller))
        tqdm.write(f"workbench: {smaller}", file=sys.stderr)

    def check(self) -> None:
        """Called within every step. Raises what the caller's check does, and `Cancelled` when another process asks to."""
        self._check()
        if time.monotonic() - self._looked > 0.2:
            self._looked = time.monotonic()
            if (self.run.path / "stop").exists():
                raise Cancelled(
                    f"{self.run.id} was stopped; what was finished is kept, the same sweep goes on from there."
                )

    # --- what is done --------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for line in self._reader.new():
            if line["kind"] == "cell":
                with self._lock:
                    self._records[line["cell"]] = line
                    self._good.pop(line["cell"], None)
                    self._again.discard(line["cell"])

    def done(self, cell: Cell) -> bool:
        """Whether nothing is to be done for a cell.

        Its record has the content key of now (which changes with a model's file) and the scores of now, and its picture is
        there. A failed cell is done, too, unless it is to be tried again.
        """
        record = self._records.get(cell.index)
        if record is None or cell.index in self._again:
            return False
        if cell.index not in self._good:
            self._good[cell.index] = self._holds(cell, record)
        return self._good[cell.index]

    def _holds(self, cell: Cell, record: Record) -> bool:
        from workbench import scores  # loads torch, which looking at runs does not need

        made_in = record.get("batch") or batch_of()
        key = (
            cell.key if made_in == self._planned_batch else next(reversed(stage_keys(cell.settings, made_in).values()))
        )
        if record["key"] != key:
            return False
        if record["status"] == "failed":
            return True
        if record["scores"]["versions"] != scores.versions():  # the picture is still good
            return False
        return self.run.picture(record).exists()

    def unrecorded(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of the cells that are not done, by this process or another."""
        self._read()
        return [cell for cell in cells if not self.done(cell)]

    # --- the engine's watcher --------------------------------------------------------------------------------------

    def step(self, stage: str, done: int, total: int) -> None:
        assert self.progress
        self.progress.step(stage, done, total)

    def finish(self, stage: str, settings: Settings, seconds: float | None) -> None:
        assert self.progress
        self.progress.finish(stage, settings, seconds)
        if stage == "scores":
            self.progress.cell()

    def measured(self, stage: str, settings: Settings, size_bytes: int, memory_bytes: int) -> None:
        assert self.progress
        self.progress.measured(stage, settings, size_bytes, memory_bytes)


def keys_of(settings: list[Settings], batch: Mapping[str, int]) -> list[dict[str, str]]:
    """The content keys of each settings on the device of the process that runs this."""
    return [stage_keys(s, batch) for s in settings]


def _flat(counters: Mapping[str, Mapping[str, int]]) -> dict[tuple[str, str], int]:
    return {(group, name): value for group, names in counters.items() for name, value in names.items()}


def _work_of(s: Settings) -> float:
    """What one picture of these settings costs. Not the seconds measured: a search must choose the same on a busy machine."""
    return sum(work_units(stage, s) for stage in s.stages)


def _missing(cells: list[Cell], on: Bench) -> dict[str, list[Settings]]:
    """{stage: settings of each job that has to run}. A result in the store needs no inputs."""
    wanted: dict[str, dict[str, Settings]] = {stage: {} for stage in stages()}
    for cell in cells:
        for stage, key in reversed(cell.keys.items()):
            if key in on.store:
                break
            wanted[stage].setdefault(key, cell.settings)
    return {stage: list(jobs.values()) for stage, jobs in wanted.items()} | {"scores": [c.settings for c in cells]}
