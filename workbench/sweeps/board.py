"""Who works on what: the groups of a sweep in the order they should run, and claims on them between processes.

A group is one picture of the last diffusion stage with all cells that are made from it (CodeFormer weights, upscalers).
Processes share a sweep out by groups: they are small enough to keep eight processes busy, and a group needs nothing from
another process but its base picture, which is in the store.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from workbench.files import writing
from workbench.recipe import first_step_key
from workbench.settings import Settings

from .costs import work_units
from .planning import Cell

WINDOW = 8  # base pictures worked on side by side: each one's first refine steps and encoded picture stay in memory


@dataclass(frozen=True)
class CellGroup:
    """Cells that share the picture `key` of their last diffusion stage.

    `first_step` names the first UNet evaluation. Groups that differ in CFG alone have the same one, and it is done once for
    all of them. None: nothing is shared.
    """

    key: str
    stage: str
    cells: tuple[Cell, ...]
    first_step: str | None

    @property
    def settings(self) -> Settings:
        return self.cells[0].settings

    @property
    def base(self) -> str:
        return self.cells[0].keys["base"]

    @property
    def model(self) -> tuple[str, str]:
        return (self.settings.model, self.settings.vae)


def cell_groups(cells: Iterable[Cell]) -> list[CellGroup]:
    """The groups of these cells in the order in which they should run.

    One model comes after the other, and of its base pictures `WINDOW` at a time. Among the groups of these, the longest come
    first; of equally long ones, each base picture gets its first before one gets its second, so that every seed shows
    something early.
    """
    shared: dict[str, list[Cell]] = {}
    for cell in cells:
        shared.setdefault(cell.keys["refine" if "refine" in cell.keys else "base"], []).append(cell)
    found, bases, turns = [], {}, {}
    for key, members in shared.items():
        stage, s = "refine" if "refine" in members[0].keys else "base", members[0].settings
        group = CellGroup(key, stage, tuple(members), first_step_key(stage, s, members[0].keys))
        base = bases.setdefault(group.model, {}).setdefault(group.base, len(bases[group.model]))
        work = work_units(stage, s)
        turn = turns[group.base, work] = turns.get((group.base, work), -1) + 1
        found.append(((list(bases).index(group.model), base // WINDOW, -work, turn, base), group))
    return [group for _, group in sorted(found, key=lambda pair: pair[0])]


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
    """Hands out groups. Each process that works on a run has a board of its own; claims keep them off each other's groups."""

    def __init__(
        self,
        claims: Locks,
        work: list[CellGroup],
        finished: Callable[[CellGroup], bool],
        stored: Callable[[str], bool],
    ) -> None:
        """`finished` says whether all cells of a group are recorded, by whomever; `stored` whether a key is in the store."""
        self._claims = claims
        self._open = list(work)
        self._finished, self._stored = finished, stored
        self._held: set[str] = set()
        self._begun: set[str] = set()

    def take(self, known_steps: Collection[str] = (), model: tuple[str, str] | None = None) -> CellGroup | None:
        """A group that nobody works on, or None; only of `model`, if one is named.

        `known_steps`: first steps that the caller has done. A group with one of these comes first, then one whose first step
        nobody has begun, then any.
        """
        choices: tuple[Callable[[CellGroup], bool], ...] = (
            lambda group: group.first_step in known_steps,
            self._fresh,
            lambda group: True,
        )
        for wanted in choices:
            for group in list(self._open):
                allowed = group.key not in self._held and model in (None, group.model)
                if allowed and wanted(group) and self._claim(group):
                    return group
        return None

    def release(self, group: CellGroup) -> None:
        """All cells of the group are recorded: it is done."""
        self._open = [other for other in self._open if other.key != group.key]
        self._held.discard(group.key)
        self._claims.free(group.key)
        if group.first_step and not any(other.first_step == group.first_step for other in self._open):
            self._claims.free(f"f{group.first_step}")

    def base_done(self, key: str) -> None:
        """A base picture is in the store, or has failed."""
        self._claims.free(f"b{key}")

    def over(self) -> bool:
        """Whether all groups are done, by this process or others."""
        self._open = [group for group in self._open if group.key in self._held or not self._finished(group)]
        return not self._open

    def close(self) -> None:
        self._claims.close()

    def _fresh(self, group: CellGroup) -> bool:
        if group.first_step is None:
            return True
        return group.first_step not in self._begun and self._claims.take(f"f{group.first_step}")

    def _claim(self, group: CellGroup) -> bool:
        if not self._claims.take(group.key):
            return False
        if self._finished(group):  # by another process, since this one looked
            self._claims.free(group.key)
            self._open.remove(group)
            return False
        if group.stage != "base" and not self._stored(group.base) and not self._claims.take(f"b{group.base}"):
            self._claims.free(group.key)  # its base picture is being made elsewhere
            return False
        self._held.add(group.key)
        if group.first_step:
            self._begun.add(group.first_step)
        return True
