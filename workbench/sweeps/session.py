"""Runs a planned sweep, alone or beside other processes. It may be stopped at any moment, and the same call goes on.

A finished stage is a picture under its content key and a line in the run's journal; so is a finished cell. Both are written
whole or not at all, and what is there is never done again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Self

from pydantic import TypeAdapter
from tqdm.auto import tqdm

from workbench.errors import Cancelled, OddFile, RecordLost, SmallerBatch
from workbench.files import LineReader, hash_json, png_bytes, read_typed, write_atomic, write_json
from workbench.recipe import Bench, ContentKeys, batch_of, bench, tell_plan
from workbench.report import heat_maps, sheet
from workbench.runs import JsonObject, Record, Run, begun_run, journal_line, open_run as open_run_of, write_table
from workbench.settings import Settings, stages
from workbench.store import Store
from workbench.sweeps.search import Grid, choose, outcome

from .board import Board, Claims
from .costs import Costs, work_units
from .engine import Engine
from .graph import Graph
from .holding import Holding, working
from .likeness import facts
from .local_workers import complaints, helping, how_many
from .memory import auto_batch, largest
from .planning import Cell, Plan, plan
from .progress import Progress
from .recording import Recorder, holds_picture
from .spec import AnySpec
from .winners import enlarge


def sweep(
    spec: AnySpec,
    *,
    on: Bench | None = None,
    retry_failed: bool = False,
    quiet: bool = False,
    check: Callable[[], None] = lambda: None,
    begun: Callable[[Run], None] = lambda run: None,
    join: bool = False,
    workers: int | None = 1,
) -> Run:
    """Run a sweep to its end, or go on with the one of the same spec that was interrupted.

    `check` is called within every denoising step; raising from it (say `Cancelled`) stops there and keeps all that is
    finished. `begun` is called once, when this process has taken the run in hand. `join` helps a process that already works
    on this run instead of being refused. `workers`: processes on this machine, None: one per GPU. Raises what `plan` raises,
    `DiskFull`, `RunBusy`, `OtherPictures`; a cell that fails is a record, not an error.
    """
    on = on or bench()
    planned, batch = prepare(spec, on.store)
    run = open_run(planned)
    with (
        Holding(run, join) as holding,
        Session(run, planned, batch, on, retry_failed=retry_failed, quiet=quiet, check=check) as session,
    ):
        begun(run)
        before = _journal_size(run)
        session.go(first=holding.first, workers=how_many(workers))
        first = holding.first
        if first or holding.inherit():
            if _journal_size(run) != before or not (run.path / LAST_FILE).exists():
                if not quiet:
                    tqdm.write("workbench: drawing the table, the heat map and the contact sheet ...", file=sys.stderr)
                finish(run)
            if planned.spec.upscale_winners:
                enlarge(run, planned, on, check)
            if not first:
                session.take_over()
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
    return planned if same else plan(spec, store, batch=batch), batch


OBJECT: TypeAdapter[JsonObject] = TypeAdapter(JsonObject)
LAST_FILE = "contact_sheet.png"  # written last: where it is, the others are


def finish(run: Run) -> None:
    """Write what a run leaves behind for people: table, heat map, contact sheet."""
    (run.path / LAST_FILE).unlink(missing_ok=True)
    table = write_table(run)
    if len(table["sharpness"].dropna()):
        write_atomic(run.path / "heat_map.png", png_bytes(heat_maps(run).picture()))
    write_atomic(run.path / LAST_FILE, png_bytes(sheet(run)))


def _journal_size(run: Run) -> int:
    return run.journal.stat().st_size if run.journal.exists() else 0


def last_session(run: Run) -> JsonObject:
    """The plan of the last call of `sweep` on this run, with what it really executed; {} before its first one has ended."""
    try:
        return read_typed(run.path / "last_session.json", OBJECT)
    except (FileNotFoundError, OddFile):  # it is for people, and written anew by the next call
        return {}


class Session:
    """One process's work on a run: what is left to do, and how far it is. Inside `with`, the store keeps its results."""

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
        self._reader = LineReader(run.journal, journal_line)
        self._records: dict[int, Record] = {}
        self._good: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._again: set[int] = set()
        self._left: set[int] = set()  # cells that are being worked on, by this process or another
        self._read()
        self._again = {i for i, record in self._records.items() if record["status"] == "failed" and retry_failed}
        self.costs = Costs.at_home()
        self.progress = Progress(self.costs, quiet=quiet)
        self.batch = batch
        self._keys_of = keys_of
        self._cells = {_named(batch): planned.cells}
        self._pins = ExitStack()
        self.notes: list[str] = []
        self.elsewhere: dict[str, dict[str, int]] = {}  # what the workers of a cluster have run

    def __enter__(self) -> Self:
        self._pin(self.planned.cells)
        return self

    def __exit__(self, *_: object) -> None:
        self._pins.close()

    def go(self, *, first: bool, workers: int = 1) -> None:
        """Work until every cell is recorded, by this process or another. Raises `OtherPictures`, and what `sweep` raises.

        `first`: whether this is the run's first worker, which starts `workers` - 1 helpers and writes `status.json` and
        `last_session.json`.
        """
        begun, started = self.on.counters(), datetime.now().astimezone().isoformat(timespec="seconds")
        todo = self._todo()
        if first:
            self.progress.status = self.run.path / "status.json"
        state = "failed"
        try:
            if not todo:
                pass
            elif first and self.planned.spec.executor == "ray":
                self._work_on_ray()
            else:
                self._work_here(workers if first else 1)
            state = "finished"
        except (KeyboardInterrupt, Cancelled):
            state = "stopped"
            raise
        finally:
            ran, begun = self.on.counters(), Counter(_flat(begun))
            executed = Counter(_flat(ran)) - begun + Counter(_flat(self.elsewhere))
            executed = {group: {name: executed[group, name] for name in now} for group, now in ran.items()}
            about = {"pid": os.getpid(), "started": started, "state": state, "executed": executed, "notes": self.notes}
            about["measured_memory"] = self.run.peak_memory()
            self.progress.close(state)
            if first:
                whole = {**self.planned.to_json(), **about, "batch": self.batch, "run": str(self.run.path)}
                write_json(self.run.path / "last_session.json", whole)

    def take_over(self) -> None:
        """The first worker has ended, and this one has finished its work."""
        self.progress.status = self.run.path / "status.json"
        self.progress.tell("finished")

    def _todo(self) -> list[Cell]:
        """The cells to run now: those of the grid that are left, or those that a search asks for next."""
        cells, spec = self._now, self.planned.spec
        self._read()
        if spec.strategy == "grid":
            return [cell for cell in cells if not self.done(cell)]
        spec_now = self.planned.resolved
        grid = Grid.of(spec_now["axes"], spec_now["prompts"], spec_now["seeds"], [cell.key for cell in cells])
        known = {
            cell.index: replace(outcome(self._records[cell.index]), seconds=_work_of(cell.settings))
            for cell in cells
            if self.done(cell)
        }
        choice = choose(spec.strategy, grid, known, budget=spec.budget)
        states = [{"settings": grid.label(i), **state._asdict()} for i, state in enumerate(choice.states)]
        about = {"why": choice.why, "notes": choice.notes, "cells": list(choice.cells), "states": states}
        about["blocks"] = len(grid.distinct_blocks)
        write_json(self.run.path / "search.json", {"strategy": spec.strategy, **about})
        return [cells[i] for i in choice.cells]

    def _work_here(self, workers: int) -> None:
        with working(self.run, self._digest(), self.planned.cells[0].settings):
            if self.run.batch() is None:
                self.run.append("batch", {"size": self.batch})
            if not self.quiet:
                tell_plan(largest(cell.settings for cell in self.planned.cells), max(self.batch.values()))
            with helping(self.run, self.planned.spec, workers) as helpers:
                self._work_off(self._work)
            self.notes += complaints(self.run, helpers)

    def _work_on_ray(self) -> None:
        from workbench.sweeps.cluster import Workers

        def work(cells: list[Cell]) -> None:
            workers.work(cells, Recorder(self.run, self.batch), self, batch=self.batch, check=self.check)

        with Workers(self.on.store) as workers:
            if not self.run.batch():
                if self.planned.spec.batch_size == "auto":
                    self.batch = workers.ask(auto_batch, [cell.settings for cell in self.planned.cells])
                self.run.append("batch", {"size": self.batch})
            # their device makes the pixels, so it makes the keys
            self._keys_of = partial(workers.ask, keys_of)
            self._cells.clear()
            self._good.clear()
            s = self.planned.cells[0].settings
            try:
                with working(self.run, self._digest(), s, about=lambda: workers.ask(facts, s)):
                    self._work_off(work)
            finally:
                self.elsewhere = workers.counters()

    def _work_off(self, work: Callable[[list[Cell]], None]) -> None:
        """Give `work` the cells that are left, until none is: a search asks for more, and a batch may have to be halved."""
        todo = self._todo()
        while todo:
            self.progress.expect(_missing(todo, self.on), len(todo), self.batch)
            self._left = worked = {cell.index for cell in todo}
            try:
                work(todo)
            except SmallerBatch as smaller:
                self._shrink(smaller)
                worked = set()
            todo = self._todo()
            self._count()
            if lost := sorted(worked & {cell.index for cell in todo}):
                raise RecordLost(
                    f"cells {lost[:5]} were worked on, but {self.run.path} has no whole record of them; see that nothing "
                    "else writes there, and run the same sweep again."
                )

    def _work(self, cells: list[Cell]) -> None:
        board = Board(Claims(self.run.path / "claims"), Graph(cells), self.unrecorded, self.on.store.__contains__)
        Engine(self.on, board, Recorder(self.run, self.batch), self, batch=self.batch, check=self.check).run()

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
            self._count()
            if (self.run.path / "stop").exists():
                raise Cancelled(
                    f"{self.run.id} was stopped; what was finished is kept, the same sweep goes on from there."
                )

    # --- content keys ----------------------------------------------------------------------------------------------

    @property
    def _now(self) -> list[Cell]:
        """The cells as they would be made now."""
        return self._cells_at(self.batch)

    def _cells_at(self, batch: Mapping[str, int]) -> list[Cell]:
        """The cells with the content keys that they have where `batch` pictures are denoised at a time."""
        if _named(batch) not in self._cells:
            keys = self._keys_of([cell.settings for cell in self.planned.cells], dict(batch))
            cells = [replace(cell, keys=own) for cell, own in zip(self.planned.cells, keys, strict=True)]
            self._cells[_named(batch)] = cells
            self._pin(cells)
        return self._cells[_named(batch)]

    def _pin(self, cells: Sequence[Cell]) -> None:
        keys = {key for cell in cells for key in cell.keys.values()}
        self._pins.enter_context(self.on.store.keeping(keys))

    def _digest(self) -> str:
        """Of what all workers on a run have in common, whatever batch each has come to."""
        return hash_json([cell.key for cell in self._cells_at(batch_of())])

    # --- what is done ----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        for line in self._reader.new():
            if line["kind"] == "cell":
                with self._lock:
                    self._records[line["cell"]] = line
                    self._good.pop(line["cell"], None)
                    self._again.discard(line["cell"])

    def _count(self) -> None:
        """Show how many of the cells are recorded, whoever has recorded them."""
        cells = self._now
        done = len(self._left) - len(self.unrecorded([cells[i] for i in self._left]))
        self.progress.recorded(done)

    def done(self, cell: Cell) -> bool:
        """Whether nothing is to be done for a cell.

        Its record has the content key of now (which changes with a model's file) and the scores of now, and its picture is
        there, as it was. A failed cell is done, too, unless it is to be tried again.
        """
        record = self._records.get(cell.index)
        if record is None or cell.index in self._again:
            return False
        if cell.index not in self._good:
            self._good[cell.index] = self._holds(cell, record)
        return self._good[cell.index]

    def _holds(self, cell: Cell, record: Record) -> bool:
        from workbench import scores  # loads torch, which looking at runs does not need

        if record["key"] != self._cells_at(record.get("batch") or batch_of())[cell.index].key:
            return False
        if record["status"] == "failed":
            return True
        if record["scores"]["versions"] != scores.versions():  # the picture is still good
            return False
        return holds_picture(self.run, record)

    def unrecorded(self, cells: Sequence[Cell]) -> list[Cell]:
        """Those of the cells that are not done, by this process or another."""
        self._read()
        return [cell for cell in cells if not self.done(cell)]

    # --- the engine's watcher --------------------------------------------------------------------------------------

    def step(self, stage: str, done: int, total: int) -> None:
        self.progress.step(stage, done, total)

    def finish(self, stage: str, settings: Settings, seconds: float | None) -> None:
        self.progress.finish(stage, settings, seconds)

    def measured(self, stage: str, settings: Settings, size_bytes: int, memory_bytes: int | None) -> None:
        self.progress.measured(stage, settings, size_bytes, memory_bytes)


def keys_of(settings: list[Settings], batch: Mapping[str, int]) -> list[dict[str, str]]:
    """The content keys of each settings on the device of the process that runs this."""
    keys = ContentKeys()
    return [keys(s, batch) for s in settings]


def _named(batch: Mapping[str, int]) -> str:
    return hash_json({**batch_of(), **batch})


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
