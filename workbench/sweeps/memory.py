"""How much memory a picture needs that was never made here, and how many of them fit at once."""

from __future__ import annotations

import math
from collections.abc import Iterable

from workbench.errors import MissingWeights
from workbench.models import FILL, hardware
from workbench.recipe import MemoryPlan, batch_of, plan_memory, sizes
from workbench.settings import Settings

LARGEST_BATCH = 8  # more rows gain nothing at 1536 px


def auto_batch(settings: Iterable[Settings]) -> dict[str, int]:
    """{stage: pictures in a UNet batch} that fit into the device's memory beside the networks that one picture leaves there.

    A power of two up to `LARGEST_BATCH`.

    1 on the CPU, where a batch gains nothing (8.61 times the naive loop at batch 1, 8.61 at 3, 8.25 at 9).
    """
    usable = hardware.usable_memory()
    size = 1
    if usable is not None and hardware.free_memory() is not None:
        most = largest(settings)
        alone = _plan(most, 1)
        while size < LARGEST_BATCH and alone is not None:
            more = _plan(most, 2 * size)
            # a batch is quicker, but not by what networks that come and go cost
            if more is None or more.residency > alone.residency or (more.bytes or math.inf) >= FILL * usable:
                break
            size *= 2
    return batch_of(size)


def largest(settings: Iterable[Settings]) -> Settings:
    """Those that need most memory: the largest picture, with the most stages."""
    return max(settings, key=lambda s: (max(_megapixels(s).values()), len(s.stages)))


def estimated_memory(s: Settings, batch: int = 1) -> int | None:
    """Bytes: the most that is on the device at once, weights in the precision used and what is alive beside them.

    `batch`: pictures in a UNet batch. None where the weights are missing or in no file whose size can be read.
    """
    plan = _plan(s, batch)
    return plan.bytes if plan else None


def residency_name(s: Settings, batch: int = 1) -> str | None:
    """The arrangement of networks that these settings get, like "one network"; None where weights are missing."""
    plan = _plan(s, batch)
    return plan.residency.name.lower().replace("_", " ") if plan else None


def _plan(s: Settings, batch: int) -> MemoryPlan | None:
    try:
        return plan_memory(s, batch)
    except MissingWeights:
        return None


def _megapixels(s: Settings) -> dict[str, float]:
    """{stage: megapixels at which it works}."""
    return {name: math.prod(at) / 1024**2 for name, (at, _) in sizes(s).items()}
