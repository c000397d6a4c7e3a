"""A worker with what ails it, for tests/sweeps/test_cluster.py: Ray imports it by name in other processes.

To start one takes as long as a sweep of 24 cells, so all tests have the same two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from workbench.store import Store
from workbench.sweeps.cluster import worker


class Worker(worker.Worker):
    """Does what `ailing` says, after a restart too."""

    def run(self, *arguments: Any) -> None:
        from workbench.recipe import faces

        faces.DETECTION_SIDES = (128, faces.DETECTION_SIDES[1])  # as the fixture `spec` has it
        note = _note(self.bench.store)
        with AILMENTS[note.read_text()]() if note.exists() else nullcontext():
            super().run(*arguments)


@contextmanager
def ailing(store: Store, what: str) -> Iterator[None]:
    """Inside, the workers with this store are "deadly" or have a "small card"."""
    _note(store).write_text(what)
    try:
        yield
    finally:
        _note(store).unlink()


def _note(store: Store) -> Path:
    assert store.folder is not None
    return Path(store.folder).parent / "ails"


@contextmanager
def deadly() -> Iterator[None]:
    """The process dies at one setting."""
    from workbench.recipe import denoising

    real = denoising.Diffusion.evaluate

    def evaluate(self: Any, rows: Any, batch: int = 1) -> Any:
        if any(row.cfg == 6.0 and row.steps == 3 and row.done == 1 for row in rows):
            os._exit(1)
        return real(self, rows, batch)

    denoising.Diffusion.evaluate = evaluate
    try:
        yield
    finally:
        denoising.Diffusion.evaluate = real


@contextmanager
def small_card() -> Iterator[None]:
    """The device holds two guided pictures of the refiner at a time."""
    import torch
    from diffusers import UNet2DConditionModel

    real = UNet2DConditionModel.forward

    def forward(self: Any, sample: Any, *rest: Any, **named: Any) -> Any:
        if len(sample) > 4 and sample.shape[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, sample, *rest, **named)

    UNet2DConditionModel.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        UNet2DConditionModel.forward = real


AILMENTS = {"deadly": deadly, "small card": small_card}
