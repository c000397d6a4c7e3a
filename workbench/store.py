"""Finished stage results, kept under the hash of everything that made them. Same key: not computed again."""

from __future__ import annotations

import base64
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from .files import home, write_atomic
from .images import pixels_sha256, png_bytes

MEMORY_LIMIT = 64  # results kept in memory; at 1536 px one is 7 MB


@dataclass(frozen=True)
class Artefact:
    """What a stage hands on: an 8-bit RGB picture, and what the next stage needs beside it.

    `generator_state` is the state of the one random generator that base and refiner share, as it stood when the stage
    had finished (torch's CPU generator, 5,056 bytes); `info` holds JSON values (faces found, counts).
    """

    image: Image.Image
    generator_state: bytes | None = None
    info: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Store:
    """Artefacts by key, in memory and (where `folder` is not None) on disk. Safe to use from threads and processes.

    A file that does not match its recorded pixel hash counts as absent: it is computed again, never served.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._memory: OrderedDict[str, Artefact] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def at_home(cls) -> Store:
        return cls(home() / "store")

    def _path(self, key: str) -> Path | None:
        return self.folder / key[:2] / key if self.folder else None

    def __contains__(self, key: str) -> bool:
        """Whether `key` was finished (cheap: does not read the picture)."""
        path = self._path(key)
        return key in self._memory or (path is not None and path.with_suffix(".json").exists())

    def get(self, key: str) -> Artefact | None:
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
        artefact = self._read(key)
        if artefact:
            self._remember(key, artefact)
        return artefact

    def put(self, key: str, artefact: Artefact, about: dict[str, Any]) -> None:
        """Keep `artefact`; `about` (JSON) says what made it. The JSON file is written last: it is the commit mark."""
        self._remember(key, artefact)
        path = self._path(key)
        if path is None:
            return
        state = artefact.generator_state
        write_atomic(path.with_suffix(".png"), png_bytes(artefact.image, level=1))
        record = {
            "pixels_sha256": pixels_sha256(artefact.image),
            "generator_state": base64.b64encode(state).decode() if state is not None else None,
            "info": artefact.info,
            "seconds": artefact.seconds,
            "about": about,
        }
        write_atomic(path.with_suffix(".json"), json.dumps(record).encode())

    def _remember(self, key: str, artefact: Artefact) -> None:
        with self._lock:
            self._memory[key] = artefact
            self._memory.move_to_end(key)
            while len(self._memory) > MEMORY_LIMIT:
                self._memory.popitem(last=False)

    def _read(self, key: str) -> Artefact | None:
        path = self._path(key)
        if path is None or not path.with_suffix(".json").exists():
            return None
        try:
            record = json.loads(path.with_suffix(".json").read_text())
            with Image.open(path.with_suffix(".png")) as file:
                image = file.convert("RGB")
            if pixels_sha256(image) != record["pixels_sha256"]:
                raise ValueError("the picture is not the one that was stored")
            state = record["generator_state"]
            return Artefact(
                image, base64.b64decode(state) if state is not None else None, record["info"], record["seconds"]
            )
        except (OSError, ValueError, KeyError, SyntaxError):
            path.with_suffix(".json").unlink(missing_ok=True)  # damaged: drop the commit mark, so it is made again
            return None
