"""Writes an engine's results into a run's folder: the picture first, then a durable line of the journal."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

from PIL import Image

from workbench.files import picture_chunks, pixels_sha256, png_bytes, write_atomic
from workbench.recipe import batch_of
from workbench.runs import Record, Run
from workbench.settings import Settings

from .planning import Cell


class Recorder:
    """The sink of an engine. Threads may call it at once, and other processes may write to the same run."""

    def __init__(self, run: Run, batch: Mapping[str, int]) -> None:
        """`batch`: {stage: pictures in a UNet batch}, kept with every record where it is not 1."""
        self.run, self.batch = run, batch

    def stage(self, stage: str, key: str, settings: Settings, seconds: float, memory: int | None) -> None:
        """A stage's result is in the store. `memory`: the most bytes of the GPU that it took; None where not measured."""
        about = {"stage": stage, "key": key, "seconds": round(seconds, 4), "pid": os.getpid()}
        self.run.append("stage", about if memory is None else {**about, "memory_bytes": memory})

    def cell(
        self,
        cell: Cell,
        image: Image.Image,
        seconds: float,
        status: str,
        measured: Mapping[str, object],
        notes: Sequence[str],
    ) -> None:
        """A cell's picture is made and scored: `status`, `measured`: of `scores.cell_scores`; `notes`: of stages."""
        from workbench.scores import SCORED  # loads torch, which looking at runs does not need

        picture = f"pictures/{cell.index:04d}.png"
        data = png_bytes(image, picture_chunks(image, cell.settings, keys=cell.keys))
        write_atomic(self.run.path / picture, data)
        self._record(
            cell,
            {
                "status": "done" if status in SCORED else status,
                "reason": None,
                "scores": measured,
                "picture": picture,
                "pixels_sha256": pixels_sha256(image),
                "file": {
                    "bytes": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "mtime_ns": (self.run.path / picture).stat().st_mtime_ns,
                },
                "seconds": round(seconds, 3),
                **({"notes": [*notes]} if notes else {}),
            },
        )

    def failed(self, cell: Cell, reason: str, trace: str) -> None:
        """A cell has no picture, or no score, and why."""
        self._record(cell, {"status": "failed", "reason": reason, "traceback": trace})

    def _record(self, cell: Cell, result: Mapping[str, object]) -> None:
        about = {"cell": cell.index, "key": cell.key, "keys": cell.keys, "settings": cell.settings.model_dump()}
        batch = {} if self.batch == batch_of() else {"batch": dict(self.batch)}
        self.run.append("cell", {**about, **batch, **result})


def holds_picture(run: Run, record: Record) -> bool:
    """Whether a cell's picture is there as it was recorded. It is read only where its time is another, as in a copy."""
    path, file = run.picture(record), record.get("file")
    try:
        stat = path.stat()
        if file is None:  # a run of before
            return True
        if stat.st_size != file["bytes"]:
            return False
        if stat.st_mtime_ns == file["mtime_ns"]:
            return True
        return hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
    except FileNotFoundError:
        return False
