"""Who works on what: the trunks of a sweep in the order they should run, and claims on them between processes.

A trunk is one finished picture of the diffusion stages with every cell that branches off it (CodeFormer weights,
upscalers). It is the unit that processes share out among themselves: small enough to keep eight of them busy, and it needs
nothing from another but its base picture, which is in the store.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .costs import work_units
from .files import writing
from .plans import Cell
from .settings import Settings
from .stages import family

WINDOW = 8  # base pictures worked on side by side: each one's first refine steps and encoded picture stay in memory


@dataclass(frozen=True)
class Trunk:
    """Cells that share the picture `key` of their last diffusion stage.

    `family` is shared by trunks that differ in guided CFG alone, whose first UNet evaluation is one (None: has no such).
    """

    key: str
    stage: str
    cells: tuple[Cell, ...]
    family: str | None

    @property
    def settings(self) -> Settings:
        return self.cells[0].settings

    @property
    def base(self) -> str:
        return self.cells[0].keys["base"]

    @property
    def model(self) -> tuple[str, str]:
        return (self.settings.model, self.settings.vae)


def trunks(cells: Iterable[Cell]) -> list[Trunk]:
    """The trunks of these cells, models one after the other, in windows of `WINDOW` base pictures; within a window the
    longest first, and each strength's CFGs in turns over the base pictures, so that every seed shows something early."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.keys["refine" if "refine" in cell.keys else "base"], []).append(cell)
    found, bases, turns = [], {}, {}
    for key, group in groups.items():
        stage, s = "refine" if "refine" in group[0].keys else "base", group[0].settings
        trunk = Trunk(key, stage, tuple(group), family(stage, s, group[0].keys))
        base = bases.setdefault(trunk.model, {}).setdefault(trunk.base, len(bases[trunk.model]))
        work = work_units(stage, s)
        turn = turns[trunk.base, work] = turns.get((trunk.base, work), -1) + 1
        found.append(((list(bases).index(trunk.model), base // WINDOW, -work, turn, base), trunk))
    return [trunk for _, trunk in sorted(found, key=lambda pair: pair[0])]


class Claims:
    """Locks by name in a folder. The system frees them when their process ends, however it ends."""

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
        if not _is_at(file, self.folder / name[:40]):  # its last holder has removed it meanwhile
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
    """Hands out trunks. Processes that share a run's folder each have one of their own, with claims that are locks."""

    def __init__(
        self,
        claims: Claims,
        work: list[Trunk],
        finished: Callable[[Trunk], bool],
        stored: Callable[[str], bool],
    ) -> None:
        """`finished` says whether all cells of a trunk are recorded, by whomever; `stored` whether a key is in the store."""
        self._claims = claims
        self._open = list(work)
        self._finished, self._stored = finished, stored
        self._held: set[str] = set()
        self._begun: set[str] = set()

    def take(self, warm: Collection[str] = (), model: tuple[str, str] | None = None) -> Trunk | None:
        """A trunk that nobody works on, or None. First one whose first step is known (its family is `warm`), then one of a
        family that nobody has begun, then any; only of `model`, if one is named."""
        choices: tuple[Callable[[Trunk], bool], ...] = (
            lambda trunk: trunk.family in warm,
            self._fresh,
            lambda trunk: True,
        )
        for wanted in choices:
            for trunk in list(self._open):
                allowed = trunk.key not in self._held and model in (None, trunk.model)
                if allowed and wanted(trunk) and self._claim(trunk):
                    return trunk
        return None

    def release(self, trunk: Trunk) -> None:
        """The trunk's cells are recorded."""
        self._open = [other for other in self._open if other.key != trunk.key]
        self._held.discard(trunk.key)
        self._claims.free(trunk.key)
        if trunk.family and not any(other.family == trunk.family for other in self._open):
            self._claims.free(f"f{trunk.family}")

    def base_done(self, key: str) -> None:
        """A base picture is in the store, or has failed."""
        self._claims.free(f"b{key}")

    def over(self) -> bool:
        """Whether nothing is left, here or with others."""
        self._open = [trunk for trunk in self._open if trunk.key in self._held or not self._finished(trunk)]
        return not self._open

    def close(self) -> None:
        self._claims.close()

    def _fresh(self, trunk: Trunk) -> bool:
        if trunk.family is None:
            return True
        return trunk.family not in self._begun and self._claims.take(f"f{trunk.family}")

    def _claim(self, trunk: Trunk) -> bool:
        if not self._claims.take(trunk.key):
            return False
        if self._finished(trunk):  # by another process, since this one looked
            self._claims.free(trunk.key)
            self._open.remove(trunk)
            return False
        if trunk.stage != "base" and not self._stored(trunk.base) and not self._claims.take(f"b{trunk.base}"):
            self._claims.free(trunk.key)  # its base picture is being made elsewhere
            return False
        self._held.add(trunk.key)
        if trunk.family:
            self._begun.add(trunk.family)
        return True
