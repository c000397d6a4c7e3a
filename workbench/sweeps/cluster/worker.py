"""One worker of a Ray cluster: an `Engine` in a process of its own that keeps its models and reports to a hub."""

from __future__ import annotations

import copyreg
import platform
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from workbench.errors import Cancelled, HubLost, RayMissing, SmallerBatch, StoreNotShared, WorkbenchError
from workbench.recipe import Bench, stage_keys
from workbench.runs import Run
from workbench.settings import Settings
from workbench.store import Store

from ..engine import Engine
from ..graph import Task
from ..likeness import facts
from ..planning import Cell
from ..recording import Recorder
from .hub import Event, Step

Result = TypeVar("Result")
LOOK = 0.2  # s between two looks of a worker at whether it shall stop

# its constructor takes other arguments than it keeps, and pickle would hand it those
copyreg.pickle(SmallerBatch, lambda error: (SmallerBatch, (error.stage, error.size)))  # type: ignore[arg-type]


class Differs(Exception):
    """Raised in a worker: (host, what its pictures depend on, the settings they were asked for)."""


Handle = Any  # of a process, or of a call of one: Ray gives them no type
Call = Callable[..., Any]  # by name of a method of the hub, and its arguments; returns what it gave


def load_ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise RayMissing(
            "executor 'ray' needs Ray, which is not installed; run pip install \"sdxl-face-workbench[ray]\", or use "
            "executor 'local'."
        ) from None
    return ray


def answer(call: Handle) -> Any:
    """What a call to another process returned. Raises what it raised there; Ray's `RayError` where that process is lost."""
    ray = load_ray()
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, (WorkbenchError, Differs)) else error) from None


def from_hub(call: Handle) -> Any:
    """What a call of a hub's method returned. Raises what it raised, and `HubLost`."""
    errors = load_ray().exceptions
    try:
        return answer(call)
    except errors.RayTaskError:
        raise
    except errors.RayError as error:
        raise HubLost(
            f"the process that writes the results has died ({first_line(error)}); what it had recorded is kept, run the "
            "same command again to go on."
        ) from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class Worker:
    """Runs in a process of its own on some machine, with one whole GPU; its models stay loaded from run to run."""

    def __init__(self, store: Store) -> None:
        self.bench = Bench(store)

    def ask(self, function: Callable[..., Result], *arguments: object) -> Result:
        return function(*arguments)

    def run(self, hub: Handle, token: str, batch: Mapping[str, int], marker: str, expected: Mapping[str, str]) -> None:
        """Work until the hub has nothing left, or says stop. Raises what `Engine.run` does, `StoreNotShared`, `Differs`."""

        def call(name: str, *arguments: object) -> Any:
            return from_hub(hub.call.remote(name, token, *arguments))

        if not call("begin"):
            return  # this call was meant for a hub that has ended meanwhile
        place = self.bench.store.place
        if place is None or not place.has(marker):
            raise StoreNotShared(
                f"the worker on {platform.node()} does not see the store {place}; let WORKBENCH_STORE name a folder that "
                "all machines mount under the same path, or an fsspec URL such as s3://bucket/store."
            )
        if facts() != expected:
            raise Differs(platform.node(), facts(), None)
        watcher = Reporter(call, self.bench)
        with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
            recorder = Recorder(RemoteRun(Path(folder), lambda *about: call("post", *about)), batch)
            board = RemoteBoard(call, batch)
            try:
                Engine(self.bench, board, recorder, watcher, batch=batch, check=watcher.check).run()
            except _Stop:
                pass
            finally:
                watcher.tell()


class _Stop(Cancelled):
    """The hub has told this worker to stop."""


class RemoteBoard:
    """A worker's view of its board at the hub. Refuses a task that this machine would make other pictures of."""

    def __init__(self, call: Call, batch: Mapping[str, int]) -> None:
        self._call, self._batch = call, batch

    def take(self, known_steps: Collection[str] = (), model: tuple[str, ...] | None = None) -> Task | None:
        task: Task | None = self._call("take", list(known_steps), model)
        return self._checked(task) if task else None

    def made(self, key: str) -> list[Task]:
        return [self._checked(task) for task in self._call("made", key)]

    def stored(self, key: str) -> None:
        self._call("stored", key)

    def lost(self, key: str) -> None:
        self._call("lost", key)

    def below(self, keys: Collection[str]) -> list[Cell]:
        return self._call("below", list(keys))

    def release(self, name: str) -> None:
        self._call("release", name)

    def over(self) -> bool:
        return self._call("over")

    def close(self) -> None:
        """Nothing: what a worker still holds when it stops is free when the hub ends."""

    def _checked(self, task: Task) -> Task:
        for job in task.jobs:
            if stage_keys(job.settings, self._batch)[job.stage] != job.key:
                raise Differs(platform.node(), facts(job.settings), job.settings)
        return task


@dataclass(frozen=True)
class RemoteRun(Run):
    """A run whose files go to the hub: `post(kind, line, picture)` gets each line of the journal with its picture's file.

    Its folder is a temporary one on the worker's machine.
    """

    post: Callable[[str, Mapping[str, object], bytes | None], None]

    def append(self, kind: str, line: Mapping[str, object]) -> None:
        picture = self.path / str(line["picture"]) if "picture" in line else None
        self.post(kind, line, picture.read_bytes() if picture else None)
        if picture:
            picture.unlink()


class Reporter:
    """A worker's watcher: collects what there is to report, and tells it to the hub every `LOOK` seconds."""

    def __init__(self, call: Call, bench: Bench) -> None:
        self._call, self._bench, self._began = call, bench, bench.counters()
        self._looked = 0.0
        self._step: Step | None = None
        self._events: list[Event] = []

    def step(self, stage: str, done: int, total: int) -> None:
        self._step = (stage, done, total)

    def finish(self, stage: str, settings: Settings, seconds: float | None) -> None:
        self._events.append(("finish", (stage, settings, seconds)))

    def measured(self, stage: str, settings: Settings, size_bytes: int, memory_bytes: int | None) -> None:
        self._events.append(("measured", (stage, settings, size_bytes, memory_bytes)))

    def check(self) -> None:
        if time.monotonic() - self._looked > LOOK and self.tell():
            raise _Stop("the sweep was stopped.")

    def tell(self) -> bool:
        """Report to the hub. Returns whether to stop."""
        self._looked = time.monotonic()
        events, self._events = self._events, []
        now = self._bench.counters()
        counts = {
            group: {n: v - self._began[group].get(n, 0) for n, v in named.items()} for group, named in now.items()
        }
        return self._call("look", self._step, events, counts)
