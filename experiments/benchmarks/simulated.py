"""A card that is not there: networks that sleep as long as it would take, and a queue of workers in simulated time.

Shows what the engine around the networks costs on a faster device than the one at hand. Nothing it says is about real
networks: their speed is put in, from counted work and a rate.
"""

from __future__ import annotations

import heapq
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workbench.recipe import Bench
from workbench.settings import Settings, stages
from workbench.store import Artefact
from workbench.sweeps import IDLE, Board, Cell, Claims, Graph, Task, plan, sweep, work_units

from .naive import restorer_of
from .trust import public_portraits

# TFLOP of the full-size networks at hires-768 (768 -> 1536 px), by torch's flop counter; steps are pairs of forwards
WORK = {
    "base": 7.28, "refine": 39.27, "encode": 12.52, "decode": 25.10, "base decode": 5.75, "prefix": 0.2535, "weight": 0.5563,
}  # fmt: skip
RATE = 60.0  # TFLOP/s of a 3090 Ti with the plain pipelines in float16, from published figures (rated: 80)


class Card:
    """Takes the place of a bench's networks: each call sleeps as long as on a card of `rate` TFLOP/s at hires-768.

    The VAE answers with a portrait, so that what is scored and saved is a picture with a face.

    Attributes:
        busy: s within networks.
        span: s from the first call's begin to the last one's end.
    """

    def __init__(self, rate: float) -> None:
        """`rate`: TFLOP/s; infinity does not sleep at all."""
        self.rate, self.busy = rate, 0.0
        self._first: float | None = None
        self._last = 0.0
        self._portrait = public_portraits()["collins"]

    @property
    def span(self) -> float:
        return self._last - (self._first or 0.0)

    def clear(self) -> None:
        self.busy, self._first, self._last = 0.0, None, 0.0

    def replace(self, on: Bench, s: Settings) -> None:
        """Load the networks that `s` needs on a bench, and put the card in their place; they stay so."""
        diffusion = on.diffusion(s)
        for stage, pipe in (("base", diffusion.base), ("refine", diffusion.refiner(s))):
            pipe.unet.forward = self._unet(stage)
        diffusion.base.vae.encoder.forward = self._encoder
        diffusion.base.vae.decoder.forward = self._decoder(s)
        setattr(restorer_of(on, s), "many", self._restorer(restorer_of(on, s).counts))  # noqa: B010 (of this object alone)

    def _sleep(self, work: float) -> None:
        started = time.perf_counter()
        self._first = started if self._first is None else self._first
        time.sleep(work / self.rate)
        self._last = time.perf_counter()
        self.busy += self._last - started

    def _unet(self, stage: str) -> Callable[..., Any]:
        def forward(sample: Any, *_: Any, **__: Any) -> Any:
            self._sleep(WORK[stage] * len(sample) / 2)
            return (0.1 * sample,)

        return forward

    def _encoder(self, picture: Any) -> Any:
        self._sleep(WORK["encode"])
        return picture.new_zeros(1, 8, picture.shape[-2] // 8, picture.shape[-1] // 8)  # mean and log variance

    def _decoder(self, s: Settings) -> Callable[..., Any]:
        @cache
        def portrait(size: tuple[int, int]) -> np.ndarray:  # made once: its making is no work of the engine's
            pixels = np.asarray(self._portrait.resize(size, Image.Resampling.LANCZOS), np.float32)
            return pixels.transpose(2, 0, 1)[None] / 127.5 - 1

        def forward(latents: Any, *_: Any, **__: Any) -> Any:
            size = (8 * latents.shape[-1], 8 * latents.shape[-2])
            self._sleep(WORK["base decode" if size == (s.width, s.height) else "decode"])
            return latents.new_tensor(portrait(size))

        return forward

    def _restorer(self, counts: dict[str, int]) -> Callable[..., list[Artefact]]:
        def many(before: Artefact, settings: Sequence[Settings], report: Any, *_: Any) -> list[Artefact]:
            self._sleep(WORK["prefix"])
            made = []
            for n, _settings in enumerate(settings, start=1):
                self._sleep(WORK["weight"])
                made.append(Artefact(before.image.copy(), info={"faces": []}, seconds=0.001))
                report("faces", n, len(settings))
            counts["detections"] += 1
            counts["prefixes"] += 1
            counts["weights"] += len(settings)
            return made

        return many


def card_sweep(on: Bench, spec: dict[str, Any], seconds: float, check: Callable[[], None]) -> dict[str, Any]:
    """Sweep `spec` on a simulated card, with real schedulers, scores, pictures and journal.

    Args:
        seconds: what the networks take in all; the card's rate follows from it.

    Returns:
        "busy": share of the time from the first network call to the last in which the card worked; "seconds" of that
        time; "rate" of the card in TFLOP/s; "real_seconds": what the networks take on a card of `RATE`; "ratio": how many
        times as long they would take it cell by cell, each cell from its noise on; "limit": the ratio of a card that is
        always busy.
    """
    planned = plan(spec, on.store)
    least, s = planned.minimum(), planned.cells[0].settings
    steps = least["unet_evaluations"]
    refined = len(planned.left["refine"])
    work = (
        sum(count * WORK[stage] for stage, count in steps.items() if count)  # none details faces
        + least["vae_encodes"] * WORK["encode"]
        + refined * WORK["decode"] + len(planned.left["base"]) * WORK["base decode"]
        + least["prefixes"] * WORK["prefix"] + least["weights"] * WORK["weight"]
    )  # fmt: skip
    alone, cells = planned.to_json()["naive_unet_evaluations"], planned.naive
    naive = (
        sum(count * WORK[stage] for stage, count in alone.items() if count)
        + cells["base"] * WORK["base decode"] + cells["refine"] * (WORK["encode"] + WORK["decode"])
        + cells["faces"] * (WORK["prefix"] + WORK["weight"])
    )  # fmt: skip
    card = Card(work / seconds)
    card.replace(on, s)
    sweep(spec, on=on, quiet=True, check=check)
    return {
        "busy": card.busy / card.span, "seconds": card.span, "rate": card.rate, "real_seconds": work / RATE,
        "cores": os.cpu_count(), "cells": len(planned.cells),
        "ratio": naive / card.rate / card.span, "limit": naive / work,
    }  # fmt: skip


def queue(spec: dict[str, Any], workers: int, folder: Path) -> dict[str, Any]:
    """Work off a sweep's tasks by `workers` in simulated time, each with a board of its own and claims in `folder`.

    A task takes the counted work of its jobs at `RATE`; a first step that the worker knows already is left out. Scores
    and pictures are not in it: they run on threads.

    Returns:
        "efficiency": the least work there is / (workers x the time until the last has ended); "seconds": that time; "busy":
        share of it in which each worker worked; "extra_first_steps": how many are done again, since first steps are shared
        within a worker only.
    """
    graph = Graph(plan(spec).cells)
    recorded: set[int] = set()
    stored: set[str] = set()

    def unrecorded(cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if cell.index not in recorded]

    boards = [Board(Claims(folder), graph, unrecorded, stored.__contains__) for _ in range(workers)]
    busy = [0.0] * workers
    waiting = [(0.0, n) for n in range(workers)]
    lives = [_worker(board, recorded, stored) for board in boards]
    now = 0.0
    while waiting:
        now, n = heapq.heappop(waiting)
        step = next(lives[n], None)
        if step is not None:
            seconds, works = step
            busy[n] += seconds * works
            heapq.heappush(waiting, (now + seconds, n))
    least = _least(graph)
    step = next(_first_step(task) for task in graph.tasks if task.stage == "refine")
    return {
        "efficiency": least / (workers * now),
        "seconds": now,
        "busy": [round(b / now, 4) for b in busy],
        "extra_first_steps": round((sum(busy) - least) / step, 1),
    }


def _worker(board: Board, recorded: set[int], stored: set[str]) -> Iterator[tuple[float, bool]]:
    """(seconds until it goes on, whether it works meanwhile), as the engine does at a batch of 1."""
    known: set[str] = set()
    ready: list[Task] = []
    while True:
        task = ready.pop(0) if ready else board.take(known)
        if task is None:
            if board.over():
                board.close()
                return
            yield IDLE, False
            continue
        saved = _first_step(task) if task.first_step in known else 0.0
        if task.first_step:
            known.add(task.first_step)
        yield _work(task) - saved, True
        for key in task.keys:
            stored.add(key)
            ready += board.made(key)
            board.stored(key)
        recorded |= {cell.index for cell in task.cells}
        board.release(task.name)


def _least(graph: Graph) -> float:
    """Seconds of all the work with all sharing: every task once, and every first step that tasks share once."""
    return sum(map(_work, graph.tasks)) - sum(
        _first_step(task) for tasks in graph.sharing.values() for task in tasks[1:]
    )


def _work(task: Task) -> float:
    return sum(_seconds(job.stage, job.settings) for job in task.jobs)


def _seconds(stage: str, s: Settings) -> float:
    return work_units(stage, s) / RATE


def _first_step(task: Task) -> float:
    """Seconds of one step of a task: what a job of one step more would take longer."""
    s, stage = task.settings, task.stage
    more = s.replace(steps=2 * s.steps, refine_steps=2 * s.refine_steps)
    evaluations = stages()[stage].unet_evaluations
    return (_seconds(stage, more) - _seconds(stage, s)) / (evaluations(more) - evaluations(s))


def memory_sweep(on: Bench, spec: dict[str, Any], warm: int, check: Callable[[], None]) -> dict[str, Any]:
    """Sweep `spec` on a card that takes no time, and see how the process grows.

    Args:
        warm: recorded cells after which it should not grow any more: caches are full by then.

    Returns:
        "growth": resident memory when all cells are recorded / when `warm` are, -1; "bytes": {recorded cells: resident
        bytes}, ten and the two of the growth; "peak": the process's largest.
    """
    planned = plan(spec, on.store)
    Card(float("inf")).replace(on, planned.cells[0].settings)
    seen: dict[int, int] = {}
    lock = threading.Lock()

    def look() -> None:
        check()
        with lock:
            seen.setdefault(len(on_disk()), _resident())

    folder = on.store.folder
    assert isinstance(folder, Path)
    runs = folder.parent / "runs"

    def on_disk() -> list[str]:
        return [name for run in runs.glob("*/pictures") for name in os.listdir(run)]

    sweep(spec, on=on, quiet=True, check=look)
    total = len(planned.cells)
    seen[total] = _resident()
    after = [cells for cells in sorted(seen) if cells >= warm]
    first, last = seen[after[0]], seen[after[-1]]
    shown = sorted(seen)[:: max(1, len(seen) // 10)]
    return {
        "growth": last / first - 1, "cells": total, "warm": after[0],
        "bytes": {cells: seen[cells] for cells in sorted({*shown, after[0], total})},
        "peak": max(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *seen.values()),  # the system's lags
    }  # fmt: skip


def _resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
