"""How much memory settings need, and which networks are on the device at once so that they fit: known before loading."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm.auto import tqdm

from workbench.errors import MissingWeights
from workbench.models import DeviceUse, Residency, fitting, hardware, peak, residency_words
from workbench.settings import Settings, stages

from .idling import ask_for_memory
from .keys import sizes

_told: set[Residency] = set()


@dataclass(frozen=True)
class MemoryPlan:
    """Attributes:
    residency: what was chosen.
    uses: what is done on the device.
    usable: bytes that may be taken; None where there is no limit, as on a CPU.
    """

    residency: Residency
    uses: Sequence[DeviceUse]
    usable: int | None

    @property
    def bytes(self) -> int | None:
        """The most that is on the device at once, estimated; None where a network's file does not say its size."""
        known = all(size for use in self.uses for size in use.networks.values())
        return peak(self.residency, self.uses) if known else None

    @property
    def words(self) -> str:
        """A sentence on it; "" where there was nothing to choose."""
        return residency_words(self.residency, self.uses, self.usable) if self.usable is not None else ""


def plan_memory(s: Settings, batch: int = 1) -> MemoryPlan:
    """What of the networks of these settings is on the device at once. `batch`: pictures in a UNet batch.

    Raises `MissingWeights`, `CorruptWeights`; `UnreadableSize` or `UsageError` of $WORKBENCH_MAX_MEMORY.
    """
    usable = hardware.usable_memory()
    megapixels = {name: math.prod(at) / 1024**2 for name, (at, _) in sizes(s).items()}
    uses = [use for name, size in megapixels.items() for use in stages()[name].memory(s, size, batch)]
    return MemoryPlan(fitting(uses, usable), uses, usable)


def residency_of(s: Settings, batch: int = 1) -> Residency:
    """As `plan_memory`; reads no header where memory is not limited."""
    try:
        return Residency.ALL if hardware.usable_memory() is None else plan_memory(s, batch).residency
    except MissingWeights:  # of a stage that is not at work yet; it says so itself
        return Residency.ALL


def tell_plan(s: Settings, batch: int = 1) -> None:
    """Say on stderr which networks will stay on the device, once in a process for each arrangement."""
    if hardware.usable_memory() is None:
        return
    try:
        plan = plan_memory(s, batch)
    except MissingWeights:  # whoever loads says so
        return
    if plan.residency not in _told:
        _told.add(plan.residency)
        tqdm.write(f"workbench: {plan.words}.", file=sys.stderr)


def make_room(s: Settings) -> None:
    """Before SDXL is loaded onto a GPU on which not all of it has room: ask other processes that are idle to leave it."""
    if hardware.free_memory() is not None and residency_of(s) > Residency.ALL:
        ask_for_memory(lambda: residency_of(s) is Residency.ALL)
