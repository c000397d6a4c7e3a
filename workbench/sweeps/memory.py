"""How much memory a picture needs that was never made here: its weights, and what is alive beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from workbench.errors import MissingWeights
from workbench.models import hardware
from workbench.recipe import batch_of, sizes
from workbench.settings import Settings, stages

LARGEST_BATCH, FILL = 8, 0.85  # more rows gain nothing at 1536 px; share of the free memory that an estimate may fill


def auto_batch(settings: Iterable[Settings]) -> dict[str, int]:
    """{stage: pictures in a UNet batch} that fit into the device's free memory, a power of two up to `LARGEST_BATCH`.

    1 on the CPU, where a batch gains nothing (8.61 times the naive loop at batch 1, 8.61 at 3, 8.25 at 9).
    """
    free = hardware.free_memory()
    size = 1
    if free is not None:
        largest = max(settings, key=lambda s: (max(_megapixels(s).values()), len(s.stages)))
        while size < LARGEST_BATCH and (estimated_memory(largest, 2 * size) or math.inf) < FILL * free:
            size *= 2
    return batch_of(size)


def estimated_memory(s: Settings, batch: int = 1) -> int | None:
    """Bytes: all weights in the precision used, and what is alive beside them in the stage that needs most.

    `batch`: pictures in a UNet batch. None where the weights are missing or in no file whose size can be read.
    """
    networks: dict[str, int] = {}
    alive = 0.0
    try:
        for name, megapixels in _megapixels(s).items():
            own, most = stages()[name].memory(s, megapixels, batch)
            networks |= own
            alive = max(alive, most)
    except MissingWeights:
        return None
    return int(sum(networks.values()) + alive) if all(networks.values()) else None


def _megapixels(s: Settings) -> dict[str, float]:
    """{stage: megapixels at which it works}."""
    return {name: math.prod(at) / 1024**2 for name, (at, _) in sizes(s).items()}
