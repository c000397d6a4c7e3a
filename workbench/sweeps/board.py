"""Who works on what: the tasks of a sweep that can run, and claims on them between processes.

Processes share a sweep out by tasks: they are small enough to keep eight processes busy, and a task needs nothing from
another process but results, which are in the store.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO, Protocol

from workbench.files import writing

from .graph import Graph, Task
from .planning import Cell


class Locks(Protocol):
    """What `Board` needs of claims: those of processes are `Claims`, those of a hub's workers `SharedClaims`."""

    def take(self, name: str) -> bool: ...

    def free(self, name: str) -> None: ...

    def close(self) -> None: ...


class Claims:
    """Locks by name, as files in a folder. The system frees them when their process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, IO[str]] = {}

    def take(self, name: str) -> bool:
        """Whether `name` is now (or was already) held by this object."""
        if name in self._held:
            return True
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self.folder / name[:40], "a")  # noqa: SIM115 (held as long as the claim is)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        if not _is_at(file, self.folder / name[:40]):  # its last holder has just removed it
            file.close()
            return False
        self._held[name] = file
        return True

    def free(self, name: str) -> None:
        if file := self._held.pop(name, None):
            (self.folder / name[:40]).unlink(missing_ok=True)
            file.close()

    def close(self) -> None:
        for name in list(self._held):
            self.free(name)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


class Board:
    """Hands out tasks. Each process that works on a run has a board of its own; claims keep them off each other's tasks.

    A task is claimed until its results are in the store and its cells are recorded.
    """

    def __init__(
        self,
        claims: Locks,
        graph: Graph,
        unrecorded: Callable[[Sequence[Cell]], list[Cell]],
        stored: Callable[[str], bool],
    ) -> None:
        """`unrecorded` gives those of the cells that nobody has recorded; `stored` says whether a key is in the store."""
        self._claims, self._graph = claims, graph
        self._unrecorded, self._stored = unrecorded, stored
        self._goals = list(graph.goals)
        self._held: dict[str, Task] = {}
        self._begun: set[str] = set()  # first steps
        self._at_hand: set[str] = set()  # results that are in the store, or that this process has made
        self._missing: set[str] = set()  # results that are not in the store, as of this call
        self._lost: set[str] = set()  # damaged ones, which the store still names

    def take(self, known_steps: Collection[str] = (), model: tuple[str, ...] | None = None) -> Task | None:
        """A task that can run now and that nobody works on, or None.

        Args:
            known_steps: first steps that the caller has done. A task with one of these comes first, then one whose first step
                nobody has begun, then any.
            model: take no task that denoises with another one.
        """
        self._missing.clear()
        sharing = [task for step in known_steps for task in self._graph.sharing.get(step, ())]
        sharing = [task for task in sharing if not self._at_hand.issuperset(task.keys)]
        for wanted, candidates in ((self._any, sharing), (self._fresh, self._goals), (self._any, self._goals)):
            for candidate in list(candidates):
                tried: set[str] = set()
                while (task := self._runnable(candidate)) and task.name not in tried:
                    tried.add(task.name)  # a second time: another process works on it
                    if not task.may_run_beside(model) or not wanted(task) or not self._needed(candidate):
                        break
                    if claimed := self._claim(task):
                        return claimed
        return None

    def made(self, key: str) -> list[Task]:
        """This process has made a result: the tasks that mend or finish it and need no other one, claimed. Others see the
        result when it is `stored`."""
        self._at_hand.add(key)
        self._lost.discard(key)
        self._missing.clear()
        ready = [task for task in self._graph.users.get(key, ()) if not task.denoises and self._runnable(task) is task]
        return [claimed for task in ready if self._needed(task) and (claimed := self._claim(task))]

    def stored(self, key: str) -> None:
        """A result is in the store."""
        self._at_hand.add(key)
        self._lost.discard(key)

    def lost(self, key: str) -> None:
        """A result that was thought to be in the store is not there, or damaged."""
        self._at_hand.discard(key)
        self._lost.add(key)

    def below(self, keys: Collection[str]) -> list[Cell]:
        """The cells that cannot be made without these results and are not recorded."""
        return self._unrecorded(self._graph.below(keys))

    def release(self, name: str) -> None:
        """Nothing is left to do for the task of that name."""
        task = self._held.pop(name, None)
        if task is None:
            return
        self._claims.free(name)
        step = task.first_step
        if step and all(self._over(other) for other in self._graph.sharing[step]):
            self._claims.free(f"f{step}")

    def over(self) -> bool:
        """Whether all cells are recorded, by this process or others."""
        left = {cell.index for cell in self._unrecorded([cell for goal in self._goals for cell in goal.cells])}
        self._goals = [g for g in self._goals if g.name in self._held or any(c.index in left for c in g.cells)]
        return not self._goals

    def close(self) -> None:
        self._claims.close()

    # --- own -----------------------------------------------------------------------------------------------------

    def _runnable(self, task: Task) -> Task | None:
        """The task itself if what it needs is there, else the first task on the way to it that can run.

        None where that one is being made.
        """
        if task.name in self._held:
            return None
        made = all(map(self._is_there, task.keys))
        for key in task.references if made else task.taken:
            if not self._is_there(key):
                return self._runnable(self._graph.makers[key])
        return task

    def _is_there(self, key: str) -> bool:
        if key in self._at_hand:
            return True
        if key in self._missing or key in self._lost or self._graph.makers[key].name in self._held:
            return False
        if self._stored(key):
            self._at_hand.add(key)
            return True
        self._missing.add(key)
        return False

    def _claim(self, task: Task) -> Task | None:
        """The task with those of its cells that are not recorded, if it could be claimed and there is something to do."""
        if not self._claims.take(task.name):
            return None
        self._missing.difference_update(task.keys)  # by another process, since this one looked
        left = self._unrecorded(task.cells) if task.shown else []
        if not left and all(map(self._is_there, task.keys)):
            self._claims.free(task.name)
            self._goals = [goal for goal in self._goals if goal.name != task.name]
            return None
        self._held[task.name] = task
        if task.first_step:
            self._begun.add(task.first_step)
        return task.showing({cell.index for cell in left})

    def _over(self, task: Task) -> bool:
        return task.name not in self._held and all(map(self._is_there, task.keys))

    def _needed(self, candidate: Task) -> bool:
        """Whether a cell waits for it: those of a result that could not be made are recorded as failed."""
        if self._unrecorded(candidate.cells) or self.below(candidate.keys):
            return True
        self._goals = [goal for goal in self._goals if goal.name != candidate.name]
        return False

    def _any(self, task: Task) -> bool:
        return True

    def _fresh(self, task: Task) -> bool:
        if task.first_step is None:
            return True
        return task.first_step not in self._begun and self._claims.take(f"f{task.first_step}")
