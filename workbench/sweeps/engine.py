"""Runs groups: one UNet call for many pictures, one restoration for all CodeFormer weights, scores and files on threads.

The device never waits for a picture to be scored or written: threads do that while the next denoising step runs (PNG,
hashing and the scores release the GIL). When the process dies, what is on disk is never done again. Lost are at most one
batch of pictures, and those whose PNG was being written.
"""

from __future__ import annotations

import os
import time
import traceback
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import (
    Cancelled,
    CorruptWeights,
    DiskFull,
    MissingWeights,
    OutOfMemory,
    SmallerBatch,
    UsageError,
)
from workbench.models import peak_memory, pinned_threads
from workbench.recipe import Bench, effective_settings, first_step_key, inputs
from workbench.settings import Settings
from workbench.store import Artefact

from .board import WINDOW, CellGroup
from .planning import Cell
from .protocols import Queue, Sink, Watcher

if TYPE_CHECKING:
    from workbench.recipe import Answer, Diffusion, Row

ABORTS = (DiskFull, MissingWeights, CorruptWeights, Cancelled, UsageError)  # not one cell's fault: the sweep stops
FIRST_STEPS = 64  # first UNet answers kept for the other CFGs: 1.2 MB each at 1536 px in float32
BACKLOG = 64  # pictures waiting to be scored and saved: at 1536 px one is 7 MB
IDLE = 0.1  # s between two looks at what other processes have finished

Failure = tuple[str, str]  # reason, traceback


class _Stopped(BaseException):
    """Carries what the caller's check raised past the code that takes an `Exception` for a cell's failure."""

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause


@dataclass
class Work:
    """A group that is being made: it waits for its base picture, is refined or restored, or its cells are on the threads."""

    group: CellGroup
    row: Row | None = None
    waiting: int = 0


class Engine:
    """Takes groups from a board until nothing is left.

    `batch`: {stage: pictures in a UNet batch}. Where fewer are ready, the batch is filled up with copies.
    """

    def __init__(
        self,
        on: Bench,
        board: Queue,
        sink: Sink,
        watcher: Watcher,
        *,
        batch: Mapping[str, int],
        check: Callable[[], None],
        threads: int | None = None,
    ) -> None:
        self.on, self.board, self.sink, self.watcher = on, board, sink, watcher
        self.batch, self._check = batch, check
        self.first_steps: OrderedDict[str, Answer] = OrderedDict()
        self.bases: dict[str, tuple[Row, list[Work]]] = {}
        self.failed_bases: dict[str, Failure] = {}
        self.refining: list[Work] = []
        self.restoring: deque[tuple[Work, Artefact]] = deque()
        self.tasks: dict[Future[float | None], tuple[Work, list[Cell]]] = {}
        self.writes: deque[tuple[Future[int], str, str, Settings]] = deque()
        self.recent: OrderedDict[str, Artefact] = OrderedDict()
        self.pool = ThreadPoolExecutor(threads or max(1, min(8, (os.cpu_count() or 2) - 1)), "workbench")
        # results must not queue behind scores: a kill then cost 13 UNet calls where a batch was 9
        self.writer = ThreadPoolExecutor(1, "workbench-writer")
        self._held: tuple[tuple[str, str], Diffusion] | None = None

    def run(self) -> None:
        """Work until the board is over. Raises `SmallerBatch`, or one of `ABORTS`; what is finished is kept."""
        from workbench import scores
        from workbench.recipe import (
            denoising,  # noqa: F401
        )

        try:
            with pinned_threads():
                # here, before there are threads: two that import at once may see half a module
                scores.preload()
                while self._turn():
                    pass
        except BaseException as error:
            for task in self.tasks:
                task.cancel()  # scores are cheap to do again; pictures being written are waited for
            if isinstance(error, _Stopped):
                raise error.cause from None
            raise
        finally:
            self.writer.shutdown(wait=True)
            self.pool.shutdown(wait=True)
            self.board.close()
        self._collect()

    def check(self) -> None:
        try:
            self._check()
        except BaseException as error:
            raise _Stopped(error) from None

    def _turn(self) -> bool:
        self.check()
        self._collect()
        self._fill()
        if self.restoring:
            self._restore(*self.restoring.popleft())
        elif rows := self._pick():
            self._step(rows)
        elif self.tasks:
            wait(self.tasks, timeout=1.0, return_when=FIRST_COMPLETED)
        elif self.board.over():
            return False
        else:
            time.sleep(IDLE)
        return True

    # --- taking work ---------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        room = max(self.batch.values(), default=1)
        limit = 1 if room == 1 else 2 * room
        while True:
            at_work = [work for _, waiting in self.bases.values() for work in waiting] + self.refining
            if len(at_work) >= limit or len(self.tasks) > BACKLOG:
                return
            group = self.board.take(self.first_steps, at_work[0].group.model if at_work else None)
            if group is None:
                return
            self._begin(Work(group))

    def _begin(self, work: Work) -> None:
        group = work.group
        if made := self.recent.get(group.key) or self.on.store.get(group.key):
            self.restoring.append((work, made))
            return
        try:
            diffusion = self._diffusion(group.settings)
            base = None if group.stage == "base" else self.recent.get(group.base) or self.on.store.get(group.base)
            if base:
                self._refine(work, base)
            elif group.base in self.failed_bases:
                self._fail(work, self.failed_bases[group.base])
            elif group.base in self.bases:
                self.bases[group.base][1].append(work)
            else:
                self.bases[group.base] = (diffusion.start_base(group.settings), [work])
        except ABORTS:
            raise
        except Exception as error:
            self._fail(work, _failure("base", error))

    def _refine(self, work: Work, base: Artefact) -> None:
        try:
            work.row = self._diffusion(work.group.settings).start_refine(work.group.settings, base, work.group.base)
        except ABORTS:
            raise
        except Exception as error:
            self._fail(work, _failure("refine", error))
        else:
            self.refining.append(work)

    def _diffusion(self, s: Settings) -> Diffusion:
        """The pipelines of these settings' model. Kept: the bench takes 7.5 ms to see that no weights file has changed."""
        if self._held is None or self._held[0] != (s.model, s.vae):
            self._held = None  # before the next are loaded: two SDXLs do not fit on one card
            self._held = ((s.model, s.vae), self.on.diffusion(s))
        return self._held[1]

    # --- denoising -----------------------------------------------------------------------------------------------

    def _pick(self) -> list[tuple[Row, Work]]:
        """The rows of the next UNet call: a full batch of the refiner, else base pictures, else what there is.

        A row whose first step is known already is taken one step on without a call.
        """
        groups: dict[tuple[str, tuple[int, ...], bool], list[tuple[Row, Work]]] = defaultdict(list)
        begun: set[str] = set()
        starting = [(row, waiting[0]) for row, waiting in self.bases.values()]
        for row, work in [*starting, *((w.row, w) for w in self.refining if w.row)]:
            if first := self._first_step_key(row, work):
                if first in self.first_steps:
                    row.scaled()  # Euler wants to have been asked before every step
                    self._advance(row, work, self.first_steps[first])
                    return self._pick()
                if first in begun:
                    continue  # another row of this batch evaluates it
                begun.add(first)
            groups[row.shape].append((row, work))
        full = [g for shape, g in groups.items() if shape[0] == "refine" and len(g) >= self._size("refine")]
        base = [g for shape, g in groups.items() if shape[0] == "base"]
        chosen = next(iter(full or base or groups.values()), [])
        return chosen[: self._size(chosen[0][0].stage)] if chosen else []

    def _first_step_key(self, row: Row, work: Work) -> str | None:
        """Equal for rows whose first step asks the UNet the same; None when a row has done that step."""
        if row.done:
            return None
        if row.stage == work.group.stage:
            return work.group.first_step
        return first_step_key(row.stage, work.group.settings, work.group.cells[0].keys)

    def _size(self, stage: str) -> int:
        return self.batch.get(stage, 1)

    def _step(self, rows: list[tuple[Row, Work]]) -> None:
        stage, size, started = rows[0][0].stage, self._size(rows[0][0].stage), time.perf_counter()
        try:
            answers = self._diffusion(rows[0][1].group.settings).evaluate([row for row, _ in rows], size)
        except ABORTS:
            raise
        except Exception as error:
            if isinstance(error, OutOfMemory) and size > 1:
                raise SmallerBatch(stage, size // 2) from error
            if len(rows) == 1:
                self._drop(*rows[0], _failure(stage, error))
            else:  # find the row at fault: each alone, with copies of itself, which leaves the others' bits as they are
                for one in rows:
                    self._step([one])
            return
        share = (time.perf_counter() - started) / len(rows)
        for (row, work), answer in zip(rows, answers, strict=True):
            if first := self._first_step_key(row, work):
                self.first_steps[first] = answer
                while len(self.first_steps) > FIRST_STEPS:
                    self.first_steps.popitem(last=False)
            row.seconds += share
            row.evaluated += 1
            self._advance(row, work, answer)

    def _advance(self, row: Row, work: Work, answer: Answer) -> None:
        """Take one sampler step with the UNet's answer; after its last step a row is decoded."""
        try:
            row.advance(*answer)
        except Exception as error:
            self._drop(row, work, _failure(row.stage, error))
            return
        self.watcher.step(row.stage, row.done, row.steps)
        self.check()
        if row.finished:
            self._finish(row, work)

    def _finish(self, row: Row, work: Work) -> None:
        """Decode a row, store its picture, and go on with the groups that need it."""
        settings, stage = work.group.settings, row.stage
        key = work.group.cells[0].keys[stage]
        self._durable(self._size(stage))
        try:
            made = self._diffusion(settings).finish(row)
        except ABORTS:
            raise
        except Exception as error:
            self._drop(row, work, _failure(stage, error))
            return
        self.on.ran[stage] += 1
        self._write(stage, key, made, settings)
        # a first step that another CFG had done already counts as if it had been run: what a job costs must not depend on
        # what ran beside it
        spared = row.seconds / row.evaluated * (row.steps - row.evaluated) if row.evaluated else 0.0
        self.watcher.finish(stage, settings, made.seconds + spared)
        if stage == "base":
            self.recent[key] = made
            while len(self.recent) > 2 * WINDOW:
                self.recent.popitem(last=False)
            _, waiting = self.bases.pop(key)
            for each in waiting:
                if each.group.stage == "base":
                    self.restoring.append((each, made))
                else:
                    self._refine(each, made)
        else:
            self.refining.remove(work)
            self.restoring.append((work, made))

    def _drop(self, row: Row, work: Work, failure: Failure) -> None:
        if row.stage == "base":
            self.failed_bases[work.group.base] = failure
            self.board.base_done(work.group.base)
            for each in self.bases.pop(work.group.base)[1]:
                self._fail(each, failure)
        else:
            self.refining.remove(work)
            self._fail(work, failure)

    # --- after diffusion -----------------------------------------------------------------------------------------

    def _restore(self, work: Work, unrestored: Artefact) -> None:
        """Run the stages after diffusion for a group's cells, each content key once; then score and save them on threads."""
        cells = work.group.cells
        made: dict[str, Artefact] = {work.group.key: unrestored}
        failed: dict[str, Failure] = {}
        later = [[n for n in cell.keys if n not in ("base", "refine")] for cell in cells]
        for place in range(max(map(len, later))):
            at_work = {
                c.keys[names[place]]: (c, names[place])
                for c, names in zip(cells, later, strict=True)
                if len(names) > place
            }
            groups: dict[str, list[tuple[str, Cell]]] = defaultdict(list)
            for key, (cell, stage) in at_work.items():
                taken = [cell.keys[name] for name in inputs(cell.settings)[stage]]
                bad = next((failed[k] for k in taken if k in failed), None)
                if bad:
                    failed[key] = bad
                elif found := self.on.store.get(key):
                    made[key] = found
                else:  # cells that differ in weight alone share one call
                    acting = {n: v for n, v in effective_settings(stage, cell.settings).items() if n != "weight"}
                    groups[f"{stage} {acting} {taken}"].append((key, cell))
            for group in groups.values():
                self._post(group, at_work[group[0][0]][1], made, failed)
        for key in dict.fromkeys(cell.key for cell in cells):
            same = [cell for cell in cells if cell.key == key]
            if key in failed:
                self._record(work, self._failed_cells, same, failed[key])
            else:
                self._record(work, self._scored_cells, same, made[key], unrestored)

    def _post(
        self, group: list[tuple[str, Cell]], stage: str, made: dict[str, Artefact], failed: dict[str, Failure]
    ) -> None:
        """Run one stage after diffusion for cells of equal input: faces for all their weights at once, or one upscaling."""
        settings = [cell.settings for _, cell in group]
        before = [made[group[0][1].keys[name]] for name in inputs(settings[0])[stage]]

        def report(name: str, done: int, total: int) -> None:
            self.check()
            self.watcher.step(name, done, total)

        try:
            if stage == "faces":
                results = self.on.restorer(settings[0]).many(before[0], settings, report, *before[1:])
            else:
                results = [self.on.upscaler(settings[0])(before[0], settings[0], report)]
        except ABORTS:
            raise
        except Exception as error:
            failed |= dict.fromkeys((key for key, _ in group), _failure(stage, error))
            return
        for (key, cell), result in zip(group, results, strict=True):
            made[key] = result
            self.on.ran[stage] += 1
            self._write(stage, key, result, cell.settings)
            self.watcher.finish(stage, cell.settings, result.seconds)

    # --- on threads ----------------------------------------------------------------------------------------------

    def _write(self, stage: str, key: str, made: Artefact, settings: Settings) -> None:
        self.writes.append((self.writer.submit(self._put, stage, key, made, settings), stage, key, settings))

    def _put(self, stage: str, key: str, made: Artefact, settings: Settings) -> int:
        size = self.on.store.put(key, made, {"stage": stage, "settings": effective_settings(stage, settings)})
        self.sink.stage(stage, key, settings, made.seconds)
        return size

    def _durable(self, pictures: int) -> None:
        """Wait until all but the newest `pictures` are on disk, so that no more than these are lost if the process dies."""
        while len(self.writes) > pictures or (self.writes and self.writes[0][0].done()):
            task, stage, key, settings = self.writes.popleft()
            self.watcher.measured(stage, settings, task.result(), peak_memory())
            if stage == "base":
                self.board.base_done(key)

    def _record(self, work: Work, what: Callable[..., float | None], cells: list[Cell], *arguments: object) -> None:
        work.waiting += 1
        self.tasks[self.pool.submit(what, cells, *arguments)] = (work, cells)

    def _scored_cells(self, cells: list[Cell], final: Artefact, unrestored: Artefact) -> float | None:
        """Score a finished picture and record it for each of the cells that show it.

        Returns the seconds for each of them, None where scoring failed.
        """
        from workbench import scores  # loads torch, which looking at runs does not need

        started = time.perf_counter()
        try:
            status, measured = scores.cell_scores(final.image, unrestored.image)
        except ABORTS:
            raise
        except Exception as error:
            self._failed_cells(cells, _failure("scores", error))
            return None
        for cell in cells:
            self.sink.cell(cell, final.image, final.seconds, status, measured)
        return (time.perf_counter() - started) / len(cells)

    def _failed_cells(self, cells: list[Cell], failure: Failure) -> None:
        for cell in cells:
            self.sink.failed(cell, *failure)

    def _fail(self, work: Work, failure: Failure) -> None:
        self._record(work, self._failed_cells, list(work.group.cells), failure)

    def _collect(self) -> None:
        """Take in what the threads have finished. Raises what they raised."""
        for task in [task for task in self.tasks if task.done()]:
            work, cells = self.tasks.pop(task)
            seconds = task.result()
            for cell in cells:
                self.watcher.finish("scores", cell.settings, seconds)
            work.waiting -= 1
            if not work.waiting:
                self.board.release(work.group)
        self._durable(len(self.writes))


def _failure(stage: str, error: BaseException) -> Failure:
    trace = "".join(traceback.format_exception(error))
    return f"{stage}: {error or type(error).__name__}", trace
