"""The queue of a sweep that runs in many processes, and the one place from which its results are written. Knows no Ray."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal, TypedDict

from workbench.files import LineReader, write_atomic
from workbench.recipe import Bench
from workbench.runs import JsonObject, journal_line
from workbench.settings import Settings
from workbench.store import Store

from ..board import Board, Claims
from ..graph import Graph, Task
from ..planning import Cell
from ..recording import Recorder

TRIES = 3  # workers that may die on a task; a worker that retries one has no other, so that the task at fault is known

Counts = dict[str, dict[str, int]]
"""As `Bench.counters`: {group: {name: how often}}."""

Step = tuple[str, int, int]  # stage, done, total
Finished = tuple[Literal["finish"], tuple[str, Settings, float | None]]
Measured = tuple[Literal["measured"], tuple[str, Settings, int, int | None]]
Event = Finished | Measured  # method of the watcher, its arguments


class News(TypedDict):
    """What a driver wants to know of its workers."""

    step: Step | None  # the last one of any worker
    events: list[Event]  # since the last call
    counts: Counts  # of all workers
    begun: set[str]  # tokens of the workers at work
    over: bool  # whether every cell is recorded


class Hub:
    """The queue of all workers, and the one process that writes into the run's folder. Called from many threads.

    A worker calls with its token. It gets another one when it restarts, and calls with the old one change nothing.
    """

    def __init__(self, recorder: Recorder, cells: list[Cell], stored: Collection[str] = (), name: str = "") -> None:
        """`cells`: those to be recorded. `stored`: keys of the results that are in the store. `name`: the start of its
        workers' tokens."""
        self._name = name
        self._recorder, self._graph = recorder, Graph(cells)
        self._keys = {cell.index: cell.key for cell in cells}
        self._recorded: set[int] = set()
        self._writing: set[int] = set()
        self._stored = set(stored)
        self._claims = Claims(recorder.run.path / "claims")  # against processes without Ray that share the run
        self._owners: dict[str, str] = {}
        self._boards: dict[str, Board] = {}
        self._held: dict[str, dict[str, Task]] = {}
        self._deaths: Counter[str] = Counter()
        self._counts: dict[str, Counts] = {}
        self._events: list[Event] = []
        self._step: Step | None = None
        self._stopping = False
        self._lock = threading.RLock()
        self._journal = LineReader(recorder.run.journal, journal_line)
        self._journal.new()  # what was recorded before is not to be done, or to be done again

    # --- for workers ---------------------------------------------------------------------------------------------

    def begin(self, token: str) -> bool:
        """A worker begins. Returns whether it is one of this hub's: another one's was started for earlier work."""
        with self._lock:
            if not token.startswith(self._name):
                return False
            claims = SharedClaims(self._owners, token, self._claims, lambda name: self._may_have(token, name))
            self._boards[token] = Board(claims, self._graph, self._unrecorded, self._stored.__contains__)
            self._held[token] = {}
            return True

    def take(self, token: str, known_steps: Collection[str], model: tuple[str, ...] | None) -> Task | None:
        """See `Board.take`. A worker gets one retried task at a time, and no other one beside it."""
        with self._lock:
            if token not in self._boards or self._retries(token):
                return None
            self._read()
            task = self._boards[token].take(known_steps, model)
            self._held[token] |= {task.name: task} if task else {}
            return task

    def made(self, token: str, key: str) -> list[Task]:
        """See `Board.made`."""
        with self._lock:
            if token not in self._boards:
                return []
            self._read()
            tasks = self._boards[token].made(key) if not self._retries(token) else []
            self._held[token] |= {task.name: task for task in tasks}
            return tasks

    def stored(self, token: str, key: str) -> None:
        with self._lock:
            self._stored.add(key)
            for board in self._boards.values():
                board.stored(key)

    def lost(self, token: str, key: str) -> None:
        with self._lock:
            self._stored.discard(key)
            for board in self._boards.values():
                board.lost(key)

    def below(self, token: str, keys: Collection[str]) -> list[Cell]:
        with self._lock:
            self._read()
            return self._boards[token].below(keys) if token in self._boards else []

    def release(self, token: str, name: str) -> None:
        with self._lock:
            if self._held.get(token, {}).pop(name, None):
                self._boards[token].release(name)

    def over(self, token: str) -> bool:
        with self._lock:
            self._read()
            return token not in self._boards or self._boards[token].over()

    def post(self, token: str, kind: str, line: JsonObject, picture: bytes | None) -> None:
        """Write a picture, then the line of the journal that names it. A cell that is recorded already is left out."""
        cell = line["cell"] if kind == "cell" else None
        with self._lock:
            if token not in self._boards or cell in self._writing or cell in self._recorded:
                return
            if cell is not None:
                self._writing.add(cell)
        try:
            if picture is not None:
                path, written = self._recorder.run.path / line["picture"], line["file"]["mtime_ns"]
                write_atomic(path, picture)
                os.utime(path, ns=(written, written))  # the time that the worker has recorded
            self._recorder.run.append(kind, line)
            if cell is not None:
                self._recorded.add(cell)
        finally:
            self._writing.discard(cell)  # type: ignore[arg-type]

    def look(
        self,
        token: str,
        step: Step | None,
        events: list[Event],
        counts: Counts,
    ) -> bool:
        """Take note of a worker's last step, of events for the watcher, and of what it has run so far.

        Returns whether the worker shall stop.
        """
        with self._lock:
            self._counts[token] = counts
            self._events += events
            self._step = step or self._step
            return self._stopping or token not in self._boards

    # --- for the driver ------------------------------------------------------------------------------------------

    def drop(self, token: str, why: str) -> bool:
        """A worker has died: others may take its tasks, but one on which `TRIES` workers died has failed.

        Returns whether the worker had begun.
        """
        with self._lock:
            if token not in self._boards:
                return False
            self._read()
            lost = self._held.pop(token)
            self._boards.pop(token).close()
            for task in lost.values():
                self._deaths[task.name] += 1
                if self._deaths[task.name] == TRIES:
                    reason = f"{task.stage}: {TRIES} workers have died while they ran it; the last one: {why}"
                    lost_with_it = self._unrecorded(self._graph.below(task.keys))
                    cells = [cell for cell in lost_with_it if cell.index not in self._writing]
                    for cell in cells:
                        self._recorder.failed(cell, reason, "")
                    self._recorded |= {cell.index for cell in cells}
                if task.cells and not self._unrecorded(task.cells):
                    self._events.extend(("finish", ("scores", cell.settings, None)) for cell in task.cells)
            return True

    def news(self) -> News:
        """How far the work is."""
        with self._lock:
            self._read()
            events, self._events = self._events, []
            return {
                "step": self._step,
                "events": events,
                "counts": added(self._counts.values()),
                "begun": set(self._boards),
                "over": len(self._recorded) == len(self._keys),
            }

    def stop(self) -> set[str]:
        """Tell all workers to stop at their next look. Returns the tokens of those that have begun."""
        with self._lock:
            self._stopping = True
            return set(self._boards)

    def close(self) -> None:
        """Give up all claims."""
        with self._lock:
            for board in self._boards.values():
                board.close()

    # --- own -----------------------------------------------------------------------------------------------------

    def _may_have(self, token: str, name: str) -> bool:
        return not self._deaths[name] or not self._held[token]

    def _retries(self, token: str) -> bool:
        """Whether a worker runs a task that another one has died on."""
        return any(self._deaths[name] for name in self._held[token])

    def _unrecorded(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if cell.index not in self._recorded]

    def _read(self) -> None:
        """What processes without Ray have recorded meanwhile."""
        for line in self._journal.new():
            if line["kind"] == "cell" and self._keys.get(line["cell"]) == line["key"]:
                self._recorded.add(line["cell"])


class SharedClaims:
    """One worker's claims. The workers of a hub share the dict `owners`, {name: token}; towards other processes that work on
    the run, a claim is one of `beneath`. `may` says whether this worker may have a name at all."""

    def __init__(
        self, owners: dict[str, str], token: str, beneath: Claims | None, may: Callable[[str], bool] = lambda name: True
    ) -> None:
        self._owners, self._token, self._beneath, self._may = owners, token, beneath, may

    def take(self, name: str) -> bool:
        """Whether `name` is now (or was already) this worker's."""
        if name in self._owners:
            return self._owners[name] == self._token
        if not self._may(name) or (self._beneath and not self._beneath.take(name)):
            return False
        self._owners[name] = self._token
        return True

    def free(self, name: str) -> None:
        if self._owners.get(name) == self._token:
            del self._owners[name]
            if self._beneath:
                self._beneath.free(name)

    def close(self) -> None:
        for name in [name for name, owner in self._owners.items() if owner == self._token]:
            self.free(name)


def added(parts: Iterable[Counts]) -> Counts:
    """The sum of counters; all zero of none."""
    total = Bench(Store(None)).counters()
    for counts in parts:
        for group, named in counts.items():
            for name, n in named.items():
                total[group][name] = total[group].get(name, 0) + n
    return total
