"""Helpers on this machine, one for each further GPU: processes that run `workbench sweep --join` on the same run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import TooManyWorkers, UsageError
from workbench.files import write_atomic, writing
from workbench.models import hardware
from workbench.runs import Run

from .spec import Spec

PATIENCE = 60.0  # seconds a helper gets to stop: it does within one denoising step


def how_many(asked: int | None) -> int:
    """How many processes a sweep gets: `asked`, else one per GPU. Raises `TooManyWorkers`, `UsageError`."""
    named = os.environ.get("WORKBENCH_DEVICE")
    gpus = hardware.gpus() if named in (None, "cuda") else 1 if hardware.device().type == "cuda" else 0
    if asked is None:
        return max(1, gpus) if named is None else 1
    if asked < 1:
        raise UsageError(f"workers is {asked}; it must be a whole number from 1.")
    if 0 < gpus < asked:
        why = f"WORKBENCH_DEVICE names one ({named})" if named not in (None, "cuda") else f"there {_are(gpus)}"
        raise TooManyWorkers(f"workers is {asked}, but {why}; two processes on one GPU only take each other's memory.")
    return asked


def _are(gpus: int) -> str:
    return "is 1 GPU" if gpus == 1 else f"are {gpus} GPUs"


def _device_of(worker: int) -> dict[str, str]:
    """What tells a further worker its device: a GPU of its own where the first one has the GPU 0."""
    on_gpu = hardware.device().type == "cuda"
    return {"WORKBENCH_DEVICE": f"cuda:{worker}"} if on_gpu else {}


@contextmanager
def helping(run: Run, spec: Spec, workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start `workers` - 1 helpers: processes that join the run.

    They are waited for when the block ends, and stopped first where an error ends it.
    """
    started: list[subprocess.Popen[bytes]] = []
    if workers > 1:
        write_atomic(run.path / "request.json", json.dumps(spec.model_dump(), indent=2).encode())
    try:
        for i in range(1, workers):
            log = run.path / f"log-{i}.txt"
            command = [sys.executable, "-m", "workbench.cli", "sweep", str(run.path / "request.json"), "--join", "-q"]
            with writing(log), open(log, "ab") as file:
                # a session of its own: a Ctrl-C in the terminal is for the first process, which stops its helpers
                process = subprocess.Popen(
                    command, env={**os.environ, **_device_of(i)}, stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
                started.append(process)
        yield started
    except BaseException:
        for process in started:
            process.send_signal(signal.SIGINT)
        raise
    finally:
        for process in started:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def complaints(run: Run, started: list[subprocess.Popen[bytes]]) -> list[str]:
    """A sentence on each helper that ended with an error: the last line of its log."""
    said = []
    for i, process in enumerate(started, start=1):
        if process.returncode:
            lines = (run.path / f"log-{i}.txt").read_text(errors="replace").strip().splitlines() or ["no word"]
            said.append(f"helper {i} ended with status {process.returncode}: {lines[-1].removeprefix('workbench: ')}")
    return said
