"""Runs tasks: one UNet call for many pictures, one restoration for all CodeFormer weights, scores and files on threads.

The device never waits for a picture to be scored or written: threads do that while the next denoising step runs (PNG,
hashing and the scores release the GIL). When the process dies, what is on disk is never done again. Lost are at most one
batch of pictures, and those whose PNG was being written.
"""

from __future__ import annotations

import os
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, cast

from workbench.errors import OutOfMemory, SmallerBatch
from workbench.models import PeakMemory, begin, pinned_threads
from workbench.recipe import Bench, DenoisingStage, Job, PictureStage, carrying_notes, residency_of
from workbench.settings import stages
from workbench.store import Artefact

from .denoised import Denoised
from .failures import Failure, failure, raise_what_stops, twice
from .graph import WINDOW, Task
from .planning import Cell
from .protocols import Queue, Sink, Watcher
from .scored import ScoredOnce

if TYPE_CHECKING:
    from workbench.recipe import Answer, Denoising, Diffusion

FIRST_STEPS = 64  # first UNet answers kept for the other CFGs: 1.2 MB each at 1536 px in float32
BACKLOG = 64  # pictures waiting to be scored and saved: at 1536 px one is 7 MB
IDLE = 0.1  # s between two looks at what other processes have finished


class _Stopped(BaseException):
    """Carries what the caller's check raised past the code that takes an `Exception` for a cell's failure."""

    def __init__(self, cause: BaseException) -> None:
        self.cause = cause


class Engine:
    """Takes tasks from a board until nothing is left.

    `batch`: {denoising stage: pictures in a UNet batch}. Where fewer are ready, the batch is filled up with copies.
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
        self.rows: dict[tuple[str, int], Denoised] = {}  # by their places
        self.ready: deque[tuple[Task, list[Job]]] = deque()  # what needs no step of the UNet
        self.open: Counter[str] = Counter()  # {task: jobs to run, results to write and cells to record}
        self.tasks: dict[Future[float | None], tuple[Task, Sequence[Cell]]] = {}
        self.writes: deque[tuple[Future[int], Task, Job, int | None]] = deque()
        self.unwritten: dict[str, Artefact] = {}
        self.recent: OrderedDict[str, Artefact] = OrderedDict()
        self.scored = ScoredOnce()
        self.pool = ThreadPoolExecutor(threads or max(1, min(8, (os.cpu_count() or 2) - 1)), "workbench")
        # results must not queue behind scores: a kill then cost 13 UNet calls where a batch was 9
        self.writer = ThreadPoolExecutor(1, "workbench-writer")
        self._held: tuple[tuple[str, ...], Diffusion] | None = None

    def run(self) -> None:
        """Work until the board is over. Raises `SmallerBatch`, or one of `ABORTS`; what is finished is kept."""
        from workbench import scores
        from workbench.recipe import denoising  # noqa: F401 (before there are threads)

        try:
            begin()
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
        self._outside(self._check)

    def _report(self, stage: str, done: int, total: int) -> None:
        """Tell the watcher of a step, and look whether to stop."""
        self.check()
        self._outside(self.watcher.step, stage, done, total)

    def _outside(self, call: Callable[..., None], *arguments: object) -> None:
        """Call what is not the engine's own. What it raises (its file may not fit on the disk) is no cell's fault."""
        try:
            call(*arguments)
        except BaseException as error:
            raise _Stopped(error) from None

    def _turn(self) -> bool:
        self.check()
        self._collect()
        self._fill()
        if self.ready:
            self._run(*self.ready.popleft())
        elif rows := self._pick():
            self._step(rows)
        elif self.tasks:
            wait(self.tasks, timeout=1.0, return_when=FIRST_COMPLETED)
        elif self.writes:
            wait([self.writes[0][0]], timeout=1.0)
        elif self.board.over():
            return False
        else:
            time.sleep(IDLE)
        return True

    # --- taking work ---------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        room = max(self.batch.values(), default=1)
        limit = 1 if room == 1 else 2 * room
        while len(self.rows) + len(self.ready) < limit and len(self.tasks) <= BACKLOG:
            at_work = next(iter(self.rows.values()), None)
            task = self.board.take(self.first_steps, at_work.task.model if at_work else None)
            if task is None:
                return
            self._begin(task)

    def _begin(self, task: Task) -> None:
        """Go on with a claimed task: show the results that are there already, and make the others."""
        self.open[task.name] += 1
        try:
            missing = [job for job in task.jobs if not self._shown(task, job)]
            if missing and task.denoises:
                self._start(task)
            elif missing:
                self.open[task.name] += 1
                self.ready.append((task, missing))
        finally:
            self._less(task)

    def _shown(self, task: Task, job: Job) -> bool:
        """Whether a result is there already. Its cells, if it has any that are not recorded, are scored and recorded."""
        made = self._result(job.key)
        if made is None:
            return False
        if job.key not in self.unwritten:
            self.board.stored(job.key)
        self._show(task, job, made)
        return True

    def _start(self, task: Task) -> None:
        job, stage = task.jobs[0], task.jobs[0].kind
        taken = self._taken(task)
        if taken is None:
            return
        assert isinstance(stage, DenoisingStage)
        try:
            diffusion = self._diffusion(task)
            planned = residency_of(job.settings, self._size(job.stage))
            diffusion.settle(max(planned, diffusion.residency))  # others of its jobs are still at work
            denoising = twice(lambda: stage.start(diffusion, job.settings, taken, job.taken))
        except Exception as error:
            self._fail(task, task.jobs, failure(job.stage, error))
            return
        self.open[task.name] += 1
        decoded: dict[int, Artefact] = {}
        rows = [Denoised(task, denoising, n, decoded) for n in range(len(denoising.rows))]
        self.rows |= {each.place: each for each in rows}
        if not rows:
            self._complete(task, denoising, decoded)

    def _taken(self, task: Task) -> list[Artefact] | None:
        """The results that a task takes; None where one is gone from the store: it is made anew, and the task taken again."""
        found = [self._result(key) for key in task.taken]
        for key, artefact in zip(task.taken, found, strict=True):
            if artefact is None:
                self.board.lost(key)
        return None if None in found else cast("list[Artefact]", found)

    def _result(self, key: str) -> Artefact | None:
        return self.unwritten.get(key) or self.recent.get(key) or self.on.store.get(key)

    def _diffusion(self, task: Task) -> Diffusion:
        """The pipelines of a task's model. Kept: the bench takes 7.5 ms to see that no weights file has changed."""
        if self._held is None or self._held[0] != task.model:
            self._held = None  # before the next are loaded: two SDXLs do not fit on one card
            self._held = (task.model, cast("Diffusion", self.on.networks(task.jobs[0].kind, task.settings)))
        return self._held[1]

    # --- denoising -----------------------------------------------------------------------------------------------

    def _pick(self) -> list[Denoised]:
        """The rows of the next UNet call: a full batch of the last stage that has one, else what the first stage has.

        A row whose first step is known already is taken one step on without a call.
        """
        groups: dict[Hashable, list[Denoised]] = defaultdict(list)
        place = {name: n for n, name in enumerate(stages())}
        begun: set[str] = set()
        for each in list(self.rows.values()):
            if first := each.first_step:
                if first in self.first_steps:
                    each.row.scaled()  # Euler wants to have been asked before every step
                    self._advance(each, self.first_steps[first])
                    return self._pick()
                if first in begun:
                    continue  # another row of this batch evaluates it
                begun.add(first)
            groups[each.row.shape, self._size(each.row.stage)].append(each)
        late = [sorted(group, key=lambda each: -place[each.row.stage]) for group in groups.values()]
        later = sorted(late, key=lambda group: -place[group[0].row.stage])
        full = [group for group in later if group[0].job.taken and len(group) >= self._size(group[0].row.stage)]
        chosen = next(iter(full or later[::-1]), [])
        return chosen[: self._size(chosen[0].row.stage)] if chosen else []

    def _size(self, stage: str) -> int:
        return self.batch.get(stage, 1)

    def _step(self, rows: list[Denoised]) -> None:
        stage, started = rows[0].row.stage, time.perf_counter()
        size = self._size(stage)
        try:
            diffusion = self._diffusion(rows[0].task)
            evaluate = partial(diffusion.evaluate, [each.row for each in rows], size)
            answers = twice(evaluate) if size == 1 else evaluate()
        except Exception as error:
            raise_what_stops(stage, error)
            if isinstance(error, OutOfMemory) and size > 1:
                raise SmallerBatch(stage, size // 2) from error
            if len(rows) == 1:
                self._drop(rows[0], error)
            else:  # find the row at fault: each alone, with copies of itself, which leaves the others' bits as they are
                for one in rows:
                    if one.place in self.rows:
                        self._step([one])
            return
        share = (time.perf_counter() - started) / len(rows)
        for each, answer in zip(rows, answers, strict=True):
            if first := each.first_step:
                self.first_steps[first] = answer
                while len(self.first_steps) > FIRST_STEPS:
                    self.first_steps.popitem(last=False)
            each.row.seconds += share
            each.row.evaluated += 1
            self._advance(each, answer)

    def _advance(self, each: Denoised, answer: Answer) -> None:
        """Take one sampler step with the UNet's answer; after its last step a row is decoded."""
        if each.place not in self.rows:  # another row of its job has failed
            return
        try:
            each.row.advance(*answer)
        except Exception as error:
            self._drop(each, error)
            return
        self._report(each.row.stage, each.denoising.done, each.denoising.steps)
        if each.row.finished:
            self._finish(each)

    def _finish(self, each: Denoised) -> None:
        """Decode a row. With the last of a job its result is stored."""
        self._durable(self._size(each.row.stage))
        try:
            each.decoded[each.number] = twice(lambda: self._diffusion(each.task).finish(each.row))
        except Exception as error:
            self._drop(each, error)
            return
        del self.rows[each.place]
        if len(each.decoded) == len(each.denoising.rows):
            self._complete(each.task, each.denoising, each.decoded)

    def _complete(self, task: Task, denoising: Denoising, decoded: Mapping[int, Artefact]) -> None:
        """Make a job's result of its decoded rows, and store it."""
        job, rows = task.jobs[0], denoising.rows
        try:
            made = denoising.finish([decoded[n] for n in range(len(rows))])
        except Exception as error:
            self._fail(task, [job], failure(job.stage, error))
        else:
            # a first step that another CFG had done already counts as if it had been run: what a job costs must not depend
            # on what ran beside it
            spared = sum(row.seconds / row.evaluated * (row.steps - row.evaluated) for row in rows if row.evaluated)
            memory = max((row.memory for row in rows if row.memory is not None), default=None)
            self._made(task, job, made, made.seconds + spared, memory)
        self._less(task)

    def _drop(self, each: Denoised, error: Exception) -> None:
        """Record a row as failed, and with it its job."""
        self.rows = {place: other for place, other in self.rows.items() if other.job.key != each.job.key}
        self._fail(each.task, [each.job], failure(each.row.stage, error))
        self._less(each.task)

    # --- without the UNet ----------------------------------------------------------------------------------------

    def _run(self, task: Task, jobs: Sequence[Job]) -> None:
        """Run jobs of a task in one call: faces for all their weights at once, or one upscaling."""
        stage, taken = task.jobs[0].kind, self._taken(task)
        try:
            if taken is None:
                return
            assert isinstance(stage, PictureStage)
            try:
                networks = self.on.networks(stage, task.settings)
                wanted = [job.settings for job in jobs]
                with PeakMemory() as memory:
                    run = partial(stage.run, networks, taken, wanted, self._report, alone=False)
                    results = twice(lambda: self.on.with_room(stage, run))
            except Exception as error:
                self._fail(task, jobs, failure(task.stage, error))
                return
            for job, result in zip(jobs, results, strict=True):
                self._made(task, job, result, result.seconds, memory.bytes)
        finally:
            self._less(task)

    # --- results -------------------------------------------------------------------------------------------------

    def _made(self, task: Task, job: Job, made: Artefact, seconds: float, memory: int | None) -> None:
        """A job is done: write its result, show its cells, and go on with what takes it."""
        self.on.ran[job.stage] += 1
        made = carrying_notes(made, filter(None, map(self._result, job.taken)))
        self.unwritten[job.key] = self.recent[job.key] = made
        while len(self.recent) > 2 * WINDOW:
            self.recent.popitem(last=False)
        self.open[task.name] += 1
        self.writes.append((self.writer.submit(self._put, job, made, memory), task, job, memory))
        self.watcher.finish(job.stage, job.settings, seconds)
        self._show(task, job, made)
        for further in self.board.made(job.key):
            self._begin(further)

    def _show(self, task: Task, job: Job, made: Artefact) -> None:
        """Score and record the cells that show a result."""
        by_references: dict[tuple[str, str], list[Cell]] = defaultdict(list)
        for shown in task.shown.get(job.key, ()):
            by_references[shown.reference, shown.first].append(shown.cell)
        for keys, cells in by_references.items():
            found = [made if key == job.key else self._result(key) for key in keys]
            for key, result in zip(keys, found, strict=True):
                if result is None:
                    self.board.lost(key)
            if None not in found:
                self._record(task, self._scored_cells, cells, made, *found)

    def _fail(self, task: Task, jobs: Sequence[Job], why: Failure) -> None:
        """Record all cells that cannot be made without these jobs."""
        if cells := self.board.below([job.key for job in jobs]):
            self._record(task, self._failed_cells, cells, why)

    # --- on threads ----------------------------------------------------------------------------------------------

    def _put(self, job: Job, made: Artefact, memory: int | None) -> int:
        about = {"stage": job.stage, "settings": job.kind.effective_settings(job.settings)}
        size = self.on.store.put(job.key, made, about)
        self.sink.stage(job.stage, job.key, job.settings, made.seconds, memory)
        return size

    def _durable(self, pictures: int) -> None:
        """Wait until all but the newest `pictures` are on disk, so that no more than these are lost if the process dies."""
        while len(self.writes) > pictures or (self.writes and self.writes[0][0].done()):
            write, task, job, memory = self.writes.popleft()
            self.watcher.measured(job.stage, job.settings, write.result(), memory)
            self.unwritten.pop(job.key, None)
            self.board.stored(job.key)
            self._less(task)

    def _record(self, task: Task, what: Callable[..., float | None], cells: Sequence[Cell], *arguments: object) -> None:
        self.open[task.name] += 1
        self.tasks[self.pool.submit(what, cells, *arguments)] = (task, cells)

    def _scored_cells(
        self, cells: Sequence[Cell], final: Artefact, reference: Artefact, first: Artefact
    ) -> float | None:
        """Score a finished picture and record it for each of the cells that show it.

        Returns the seconds for each of them, None where scoring failed, or an equal picture had its scores.
        """
        started = time.perf_counter()
        try:
            status, measured, now = self.scored.of(final.image, reference.image, first.image)
        except Exception as error:
            self._failed_cells(cells, failure("scores", error))
            return None
        for cell in cells:
            self.sink.cell(cell, final.image, final.seconds, status, measured, final.notes)
        return (time.perf_counter() - started) / len(cells) if now else None

    def _failed_cells(self, cells: Sequence[Cell], why: Failure) -> None:
        for cell in cells:
            self.sink.failed(cell, *why)

    def _collect(self) -> None:
        """Take in what the threads have finished. Raises what they raised."""
        for future in [future for future in self.tasks if future.done()]:
            task, cells = self.tasks.pop(future)
            seconds = future.result()
            for cell in cells:
                self.watcher.finish("scores", cell.settings, seconds)
            self._less(task)
        self._durable(len(self.writes))

    def _less(self, task: Task) -> None:
        """One thing less to do for a task; after the last one it is given back to the board."""
        self.open[task.name] -= 1
        if not self.open[task.name]:
            del self.open[task.name]
            self.board.release(task.name)
