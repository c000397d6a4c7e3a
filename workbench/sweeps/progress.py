"""How far a sweep is: a bar for people who watch, and a small file for those who look in later."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn, NotRequired

from pydantic import TypeAdapter
from tqdm.auto import tqdm
from typing_extensions import TypedDict

from workbench.files import writing
from workbench.settings import Settings

from .costs import Costs, work_units


class CellCount(TypedDict):
    """Cells of one session."""

    recorded: int
    total: int


class Status(TypedDict):
    """status.json: how far a run's first worker sees it."""

    state: Literal["running", "finished", "stopped", "failed"]
    pid: int
    cells: CellCount
    stage: NotRequired[str]
    step: NotRequired[int]
    steps: NotRequired[int]
    seconds: float
    seconds_left: float
    seconds_left_is: Literal["predicted", "at least"]
    updated: float  # s since 1970


STATUS: TypeAdapter[Status] = TypeAdapter(Status)


class Progress:
    """One bar for a whole sweep, with an ETA from the measured seconds of each stage, this run's or earlier ones'.

    `status`: the file that says so to others, rewritten at most ten times a second; None: another process writes it.
    """

    def __init__(self, costs: Costs, *, quiet: bool = False) -> None:
        self._left: dict[str, float] = {}
        self._like: dict[str, Settings] = {}  # any job of a stage: it knows the model
        self._batch: dict[str, int] = {}
        self._costs = costs
        self.status: Path | None = None
        self._begun = time.time()
        self._now: dict[str, object] = {}  # which step of which stage
        self._drawn = 0.0
        # a log file keeps every redrawn bar as a line, so it gets fewer
        self._every = 0.1 if sys.stderr.isatty() else 1.0
        self._quiet = quiet
        self._bar: tqdm[NoReturn] | None = None
        self._before = self._done = self._total = 0

    def expect(self, work: Mapping[str, list[Settings]], cells: int, batch: Mapping[str, int] | None = None) -> None:
        """What is to be done now: {stage: settings of each job}, how many cells are to be recorded, and {stage: pictures in
        a UNet batch}, 1 if left out."""
        self._batch = dict(batch or {})
        self._left = {stage: sum(work_units(stage, s) for s in jobs) for stage, jobs in work.items()}
        self._like = {stage: jobs[0] for stage, jobs in work.items() if jobs}
        self._before, self._total = self._done, self._done + cells
        if self._bar is None:
            layout = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} cells [{elapsed}{postfix}]"
            self._bar = tqdm(disable=self._quiet, bar_format=layout, mininterval=self._every)
        self._bar.total = self._total
        self._bar.refresh()

    def step(self, stage: str, done: int, total: int) -> None:
        """A denoising step, a face or a tile of a job is done."""
        if time.monotonic() - self._drawn >= self._every:
            self._drawn = time.monotonic()
            self._now = {"stage": stage, "step": done, "steps": total}
            if self._bar is not None:
                self._bar.set_description_str(f"{stage:<7}", refresh=False)
                self._bar.set_postfix_str(f"step {done}/{total}, ETA {self.eta()}")
            self.tell("running")

    def finish(self, stage: str, settings: Settings, seconds: float | None) -> None:
        """A job has ended; `seconds` is None where nothing was measured."""
        self._costs.learn(stage, settings, seconds, batch=self._batch.get(stage, 1))
        self._left[stage] = max(0.0, self._left.get(stage, 0.0) - work_units(stage, settings))

    def measured(self, stage: str, settings: Settings, size_bytes: int, memory_bytes: int | None) -> None:
        """What a job has left on the disk, and the most memory so far."""
        batch = self._batch.get(stage, 1)
        self._costs.learn(stage, settings, None, batch=batch, size_bytes=size_bytes, memory_bytes=memory_bytes)

    def recorded(self, cells: int) -> None:
        """How many of the cells that were to be done are recorded now, by this process or another."""
        new, self._done = self._before + cells - self._done, self._before + cells
        if self._bar is not None and new:
            self._bar.update(new)

    def seconds_left(self) -> tuple[float, bool]:
        """(seconds, whether all stages that are left were ever timed on this machine)."""
        total, known = 0.0, True
        for stage, units in self._left.items():
            if units <= 1e-9 or stage == "scores":  # scores run on threads beside the rest
                continue
            like = self._like.get(stage)
            seconds = self._costs.seconds(stage, like, self._batch.get(stage, 1)) if like else None
            if like is None or seconds is None:
                known = False
            else:
                total += units * seconds / work_units(stage, like)
        return total, known

    def eta(self) -> str:
        """Time left in words; a stage that was never timed on this machine makes it a lower bound."""
        seconds, known = self.seconds_left()
        return f"{'' if known else 'at least '}{tqdm.format_interval(round(seconds, 1))}"

    def close(self, state: str) -> None:
        """`state`: finished, stopped or failed."""
        if self._bar is not None:
            self._bar.close()
        self.tell(state)
        self._costs.save()

    def tell(self, state: str) -> None:
        """Rewrite the status file. Not made durable: it is only worth something while this process lives."""
        if self.status is None:
            return
        seconds, known = self.seconds_left()
        about = {
            "state": state,
            "pid": os.getpid(),
            "cells": {"recorded": self._done, "total": self._total},
            **self._now,
            "seconds": round(time.time() - self._begun, 1),
            "seconds_left": round(seconds, 1),
            "seconds_left_is": "predicted" if known else "at least",
            "updated": time.time(),
        }
        temporary = self.status.with_name(f".{self.status.name}.{os.getpid()}")
        with writing(self.status):
            temporary.write_text(json.dumps(about))
            os.replace(temporary, self.status)
