"""What a job costs in time, disk and memory: a table of what was measured on this machine, by stage, size and batch."""

from __future__ import annotations

import fcntl
import itertools
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import median_low
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from workbench.errors import OddFile
from workbench.files import home, read_typed, write_json, writing
from workbench.models import hardware
from workbench.recipe import batch_of, sizes
from workbench.settings import Settings, knobs, stages

from .memory import estimated_memory

KEPT = 9  # newest measurements that count, of each device, model, stage, size and batch
BYTES_PER_PIXEL = 1.6  # a photograph as PNG, until the first of this stage was written
SCORING = (1.0, 0.3)  # work of the scores: a megapixel (1024 x 1024 px), and the face, which is brought to 512 px

What = Literal["rates", "bytes", "peak"]
"""Seconds per unit of work; bytes per pixel written; the most bytes of the GPU in use at once. Tables of before have "memory"
in place of "peak": of the whole process since its start, whatever it had run."""
Table = dict[str, dict[What, list[float]]]
"""{"1536x1536" or "1536x1536 batch 8": {what: measurements, newest last}}"""
OldTable = dict[str, list[float] | dict[str, float]]
"""What version 0.1 wrote: {"rates": [], "bytes": [], "memory": {place: bytes}}."""
KINDS: tuple[What, ...] = get_args(What)
WRITTEN = TypeAdapter(dict[str, dict[str, dict[str, dict[str, dict[str, list[float]]] | OldTable]]])
PLACE = re.compile(r"[1-9]\d{0,5}x[1-9]\d{0,5}( batch [1-9]\d{0,3})?")
OLD_SIZE = "1024x1024"  # where rates of version 0.1 stand, kept without their size: its unit of work was the same there


def work_units(stage: str, s: Settings) -> float:
    """Size of a job of `stage` (or "scores"), above 0, so that jobs can be put in order before any was timed.

    Only relations count, since times are measured: see `Stage.work`.
    """
    megapixels = math.prod(_size(stage, s)) / 1024**2
    if stage == "scores":
        megapixel, face = SCORING
        return megapixels * megapixel + face
    return stages()[stage].work(s, megapixels)


def _size(stage: str, s: Settings) -> tuple[int, int]:
    """(width, height) of the picture a stage works on; for scores, of the finished one."""
    found = sizes(s)
    return found[s.stages[-1]][1] if stage == "scores" else found[stage][0]


def _pixels_written(stage: str, s: Settings) -> int:
    return math.prod(sizes(s)[s.stages[-1] if stage == "scores" else stage][1])


def _place(stage: str, s: Settings, batch: int) -> str:
    """The line of the table that a job belongs to."""
    width, height = _size(stage, s)
    batched = batch > 1 and stage in batch_of()
    return f"{width}x{height}{f' batch {batch}' if batched else ''}"


def _model(stage: str, s: Settings) -> str:
    """What its measurements are kept under: the model, and what else chooses its networks, where that is not as usual."""
    chosen = stages()[stage].networks if stage in stages() else ()
    unusual = (n for n in chosen if knobs()[n].before is not None and getattr(s, n) != knobs()[n].before)
    return " ".join([s.model, *(f"{name}={getattr(s, name)}" for name in unusual)])


class Costs:
    """The measurements of one device, kept in a JSON file that other processes may add to meanwhile.

    File: {device: {model: {stage: `Table`}}}. What is predicted is the median of the newest 9: one outlier, such as a first
    call that also loads the weights, does not move it.
    """

    def __init__(self, path: Path, device: str) -> None:
        """`path`: the JSON file, read if it is there; `device`: device and precision in words."""
        self.path, self.device = path, device
        self._known = _read(path).get(device, {})
        self._new: list[tuple[str, str, str, What, float]] = []  # (model, stage, place, what, value), not yet saved

    @classmethod
    def at_home(cls) -> Costs:
        """Those of $WORKBENCH_HOME and of the device that torch would use now."""
        return cls(home() / "store" / "costs.json", hardware.backend())

    @staticmethod
    def devices(path: Path) -> list[str]:
        """The devices that the file has measurements of."""
        return list(_read(path))

    def seconds(self, stage: str, s: Settings, batch: int = 1) -> float | None:
        """Predicted seconds of one job; None where this stage of this model was never measured on this device.

        At a size or batch that was never measured, a unit of work takes as long as at the nearest one that was.
        """
        rates = self._nearest(stage, s, batch, "rates")
        return median_low(rates) * work_units(stage, s) if rates else None

    def bytes(self, stage: str, s: Settings) -> float:
        """Predicted size of the PNG that a stage (or "scores": the run's own copy) writes."""
        known = self._nearest(stage, s, 1, "bytes")
        return (median_low(known) if known else BYTES_PER_PIXEL) * _pixels_written(stage, s)

    def peak_memory(self, s: Settings, batch: int = 1) -> tuple[int | None, str]:
        """(bytes, "measured") where every stage was measured at this size and batch, else (bytes, "estimated").

        `batch`: pictures in a UNet batch. (None, "estimated") where nothing is known: see `estimated_memory`.
        """
        rows = [self._table(_model(stage, s), stage).get(_place(stage, s, batch), {}) for stage in s.stages]
        measured = [max(row["peak"]) for row in rows if "peak" in row]
        if len(measured) == len(rows):
            return int(max(measured)), "measured"
        return estimated_memory(s, batch), "estimated"

    def fitting(self, s: Settings, usable: int) -> Settings | None:
        """The largest picture of these settings whose peak memory stays below `usable` bytes: a smaller hires scale first,
        then a smaller base. None where none is expected to, or nothing is known of the model."""
        for changes in itertools.product(*(stages()[name].smaller(s) for name in s.stages)):
            smaller = s.replace(**{name: value for each in changes for name, value in each.items()})
            needed, _ = self.peak_memory(smaller)
            if needed is not None and needed < usable and smaller != s:
                return smaller
        return None

    def learn(
        self,
        stage: str,
        s: Settings,
        seconds: float | None,
        *,
        batch: int = 1,
        size_bytes: int | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        """Add what one job took; `None`, and a time that the clock could not tell from 0, teach nothing."""
        found: dict[What, float] = {}
        if seconds is not None and 0 < seconds < math.inf:
            found["rates"] = seconds / work_units(stage, s)
        if size_bytes:
            found["bytes"] = size_bytes / _pixels_written(stage, s)
        if memory_bytes:
            found["peak"] = memory_bytes
        for what, value in found.items():
            self._new.append((_model(stage, s), stage, _place(stage, s, batch), what, value))
            _add(self._known, *self._new[-1])

    def save(self) -> None:
        """Write what was learnt since the last save, added to what other processes wrote meanwhile; whole or not at all."""
        if not self._new:
            return
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path.with_suffix(".lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                everything = _read(self.path)
                self._known = everything.setdefault(self.device, {})
                for measurement in self._new:
                    _add(self._known, *measurement)
                write_json(self.path, everything)
        self._new.clear()

    def _table(self, model: str, stage: str) -> Table:
        return self._known.get(model, {}).get(stage, {})

    def _nearest(self, stage: str, s: Settings, batch: int, what: What) -> list[float]:
        """The measurements at this size and batch, else at the nearest size, and there at the nearest batch; [] of none."""
        rows = {place: row[what] for place, row in self._table(_model(stage, s), stage).items() if what in row}
        wanted = _place(stage, s, batch)
        return rows.get(wanted) or (rows[min(rows, key=lambda place: _distance(place, wanted))] if rows else [])


def _add(known: dict[str, dict[str, Table]], model: str, stage: str, place: str, what: What, value: float) -> None:
    row = known.setdefault(model, {}).setdefault(stage, {}).setdefault(place, {})
    row[what] = [*row.get(what, []), value][-KEPT:]


@cache
def _distance(place: str, other: str) -> tuple[float, float]:
    """How far apart two lines of a table are: in pixels, then in the batch; logarithms of ratios."""
    (pixels, batch), (others, other_batch) = _read_place(place), _read_place(other)
    return abs(math.log(pixels / others)), abs(math.log(batch / other_batch))


def _read_place(place: str) -> tuple[int, int]:
    size, _, batch = place.partition(" batch ")
    return math.prod(map(int, size.split("x"))), int(batch or 1)


def _read(path: Path) -> dict[str, dict[str, dict[str, Table]]]:
    """The file's content; nothing where it is missing or damaged: it only holds what the next run measures again."""
    try:
        found = read_typed(path, WRITTEN)
    except (FileNotFoundError, OddFile):
        return {}
    return {
        device: {model: {stage: _newer(table) for stage, table in stages.items()} for model, stages in models.items()}
        for device, models in found.items()
    }


def _newer(written: Mapping[str, object]) -> Table:
    """A stage's table from what any version wrote, without what this one does not know or read."""
    rows: dict[str, Any] = {OLD_SIZE: written} if written.keys() <= {"rates", "bytes", "memory"} else {**written}
    found: Table = {}
    for place, row in rows.items():
        if isinstance(row, dict) and PLACE.fullmatch(place):
            known: dict[What, list[float]] = {what: row[what] for what in KINDS if isinstance(row.get(what), list)}
            found[place] = {what: values for what, values in known.items() if values}
    return found
