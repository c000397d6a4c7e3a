"""What an engine works with: where its work comes from, where its results go, who watches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from PIL import Image

from workbench.settings import Settings

from .graph import Task
from .planning import Cell


class Queue(Protocol):
    """Where an engine's work comes from: a `Board`, or a hub's, through `RemoteBoard`. See `Board`."""

    def take(self, known_steps: Collection[str], model: tuple[str, ...] | None) -> Task | None: ...

    def made(self, key: str) -> list[Task]: ...

    def stored(self, key: str) -> None: ...

    def lost(self, key: str) -> None: ...

    def below(self, keys: Collection[str]) -> list[Cell]: ...

    def release(self, name: str) -> None: ...

    def over(self) -> bool: ...

    def close(self) -> None: ...


class Sink(Protocol):
    """Where an engine's results go. Its methods are called from several threads."""

    def cell(
        self,
        cell: Cell,
        image: Image.Image,
        seconds: float,
        status: str,
        measured: Mapping[str, object],
        notes: Sequence[str],
    ) -> None: ...

    def failed(self, cell: Cell, reason: str, trace: str) -> None: ...

    def stage(self, stage: str, key: str, settings: Settings, seconds: float, memory: int | None) -> None: ...


class Watcher(Protocol):
    """What shows progress. Its methods are called from the engine's own thread."""

    def step(self, stage: str, done: int, total: int) -> None: ...

    def finish(self, stage: str, settings: Settings, seconds: float | None) -> None: ...

    def measured(self, stage: str, settings: Settings, size_bytes: int, memory_bytes: int | None) -> None: ...
