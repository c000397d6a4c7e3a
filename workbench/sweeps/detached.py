"""Sweeps in a process of their own. It outlives the notebook or terminal that started it, and can be found again.

Nothing but the run's folder connects the two: `request.json` says what to do, `lock` who does it, `status.json` and
`journal.jsonl` how far it is, `log.txt` what it said, and a file `stop` asks it to end.
"""

from __future__ import annotations

import html
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, cast

from tqdm.auto import tqdm

from workbench.errors import Cancelled, NotStarted, OddFile, RunFailed, StillRunning
from workbench.files import locked, read_typed, write_atomic, writing
from workbench.report import sheets as report
from workbench.runs import JsonObject, Run, find_run

from . import holding
from .planning import plan
from .progress import STATUS
from .session import open_run
from .spec import AnySpec, Spec, make_spec

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

RunState = Literal["running", "finished", "stopped", "failed", "died", "not started"]
PATIENCE = 300.0  # seconds in which a process has to take its run: importing torch from a slow network disk took 100
EVERY = 0.3  # seconds between two looks at a run
HEADER = "--- "  # begins the log's line on each process
TAIL = 65536  # bytes at the end of a log that are read


@dataclass(frozen=True)
class Attached:
    """A run, looked at from another process than the one that works on it. Every look reads the run's folder anew.

    `started` says whether this very call of `start` started the process; it is False where one was found at work.
    """

    run: Run
    started: bool = False

    @property
    def state(self) -> RunState:
        """running, finished, stopped, failed, died (its process was killed, by hand or for want of memory) or not started."""
        if holding.holder(self.run) is not None:
            return "running"
        status = self._status()
        if status and status["state"] != "running":
            return status["state"]
        if holding.holder(self.run) is not None:  # begun between the two looks
            return "running"
        return "died" if _taken(self.run) else "not started"

    @property
    def worker(self) -> holding.Holder | None:
        """The process that works on the run now; None where nobody does."""
        return holding.holder(self.run)

    @property
    def progress(self) -> JsonObject:
        """status.json, rewritten at most once a second, with `state` as it is now.

        {"state", "pid", "cells": {"recorded", "total"} of the present session, "stage", "step", "steps", "seconds" so far,
        "seconds_left", "seconds_left_is" ("predicted" or "at least"), "updated"}; no more than `state` until the process
        has got that far.
        """
        return {**(self._status() or {}), "state": self.state}

    def table(self) -> pd.DataFrame:
        """One row per cell recorded so far, as `Run.table`."""
        return self.run.table()

    def sheet(self, tile: int = 128) -> Image.Image:
        """The contact sheet as it is now, RGB; cells that have not been run yet say so. `tile` is in px."""
        return report.sheet(self.run, tile)

    def log(self, lines: int = 20) -> str:
        """The last lines that the run's processes wrote; "" where none has run outside its caller."""
        return "\n".join(_log_lines(self.run)[-lines:])

    def stop(self, wait: float = 30.0) -> RunState:
        """Ask the process to stop after the denoising step it is in, wait up to `wait` seconds, and say the state then.

        "running" means that its step takes longer: the request stands. Where nobody works, nothing is asked.
        """
        until = time.monotonic() + wait
        while (state := self.state) == "running":
            if not (self.run.path / "stop").exists():  # a process that takes up the run removes older requests
                holding.stop(self.run)
            if time.monotonic() >= until:
                break
            time.sleep(0.1)
        return state

    def wait(self, timeout: float | None = None, progress: bool = True) -> Run:
        """Look on, with a bar, until the sweep ends; its run. Interrupting this leaves the sweep running.

        Raises `StillRunning` after `timeout` seconds, `Cancelled` where it was stopped, `RunFailed` where it failed or died.
        """
        until = time.monotonic() + timeout if timeout is not None else float("inf")
        layout = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} cells [{elapsed}{postfix}]"
        try:
            with tqdm(total=0, disable=not progress, bar_format=layout) as bar:
                while (state := self.state) == "running":
                    if time.monotonic() >= until:
                        raise StillRunning(self._goes_on())
                    self._draw(bar)
                    time.sleep(EVERY)
                self._draw(bar)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._goes_on()) from None
        if state == "finished":
            return self.run
        if state == "stopped":
            raise Cancelled(f"{self.run.id} was stopped; what was finished is kept, the same sweep goes on from there.")
        raise RunFailed(self._failure(state))

    def __repr__(self) -> str:
        return self._words()

    def _repr_html_(self) -> str:
        cells = self._cells()
        bar = f'<progress value="{cells[0]}" max="{max(cells[1], 1)}"></progress> '
        return f"{bar}{html.escape(self._words())}"

    def _words(self) -> str:
        """A line on how far it is: "2026-11-23-demo-1a2b3c4d: running, 9 of 24 cells, refine 2/5, 01:10 left"."""
        state, status = self.state, self._status() or {}
        parts = ["running, asked to stop" if state == "running" and (self.run.path / "stop").exists() else state]
        if state != "not started":
            parts.append("{} of {} cells".format(*self._cells()))
        if state == "running" and not status:
            parts.append("loading")
        elif state == "running":
            parts += [*_step(status), f"{_left(status)} left"]
        return f"{self.run.id}: {', '.join(parts)}"

    def _cells(self) -> tuple[int, int]:
        """(recorded, all) of the whole run, whichever session they were made in."""
        cells = self.run.about["cells"]
        return cells - self.run.states()["to_do"], cells

    def _status(self) -> JsonObject | None:
        """What the process that took the run last has written of its progress; None until it has written something."""
        path = self.run.path / "status.json"
        try:
            if path.stat().st_mtime_ns < _taken(self.run):
                return None
            return cast("JsonObject", read_typed(path, STATUS))
        except (FileNotFoundError, OddFile):  # one that cannot be read is written anew within a second, or nobody works
            return None

    def _draw(self, bar: tqdm[NoReturn]) -> None:
        status = self._status()
        if status is None:
            bar.set_description_str(f"{self.run.id}: loading")
            return
        bar.set_description_str(self.run.id, refresh=False)
        bar.total, bar.n = status["cells"]["total"], status["cells"]["recorded"]
        bar.set_postfix_str(", ".join([*_step(status), f"ETA {_left(status)}"]))

    def _goes_on(self) -> str:
        return (
            f"the sweep goes on in its own process; look again with attach('{self.run.id}').wait() or workbench runs watch "
            f"{self.run.id}, end it with .stop() or workbench runs stop {self.run.id}."
        )

    def _failure(self, state: RunState) -> str:
        if state == "not started":
            return f"nobody has worked on {self.run.id} yet; start its sweep."
        again = "what was finished is kept: run the same sweep again, which goes on from there."
        said = _last_words(self.run).rstrip(".")
        if state == "died":
            end = f"; its log ends with '{said}'" if said else ""
            return (
                f"the process that worked on {self.run.id} is gone (killed by hand, for want of memory or with its machine"
                f"{end}); {again}"
            )
        _wait_for_end((self._status() or {}).get("pid"))  # it lets go of the run before it says why
        said = _last_words(self.run).rstrip(".")
        return f"{self.run.id} failed{f' ({said})' if said else ''}; {again}"


def attach(run: Run | str | Path) -> Attached:
    """A run by its id, the unique start or end of one, `latest`, or its folder, whoever works on it. Raises `RunNotFound`."""
    return Attached(find_run(run))


def start(spec: AnySpec, *, retry_failed: bool = False, then: str | None = None) -> Attached:
    """Run a sweep, or go on with it, in a process of its own. Returns as soon as that holds the run.

    `then` is a shell command that follows it, however it ends: see `Afterwards`.

    It survives this process, its terminal and a Ctrl-C in it. Where a process works on this run already, it is found and
    none is started. Raises what `plan` raises before anything is written, and `NotStarted` with the process's own sentence.
    """
    planned = plan(make_spec(spec))
    run = open_run(planned)
    with locked(run.path / "starting"):  # of two that start at once, the second finds the first one's process
        leaving = (run.path / "stop").exists()  # the process at work was asked to stop: the new one waits for that
        started = (leaving or holding.holder(run) is None) and _launch(run, planned.spec, retry_failed, then)
    if not started:
        tqdm.write(
            f"workbench: a process works on {run.id} already; attached to it, none was started.", file=sys.stderr
        )
    return Attached(run, started)


def _launch(run: Run, spec: Spec, retry_failed: bool, then: str | None) -> bool:
    """Start the process and wait until it holds the run; False where another was faster."""
    request, log, before = run.path / "request.json", run.path / "log.txt", _taken(run)
    write_atomic(request, json.dumps(spec.model_dump(), indent=2, default=lambda number: number.item()).encode())
    command = [sys.executable, "-u", "-m", "workbench.cli", "sweep", str(request), *["--retry-failed"] * retry_failed]
    command += ["--then", then] if then else []
    with writing(log), open(log, "ab") as file:
        file.write(f"{HEADER}{datetime.now():%Y-%m-%d %H:%M:%S} {' '.join(command)}\n".encode())
        file.flush()
        # a session of its own: no Ctrl-C, closed terminal or kernel that ends with its process group reaches it
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    until = time.monotonic() + PATIENCE
    while not _has_begun(run, process.pid, before):
        if process.poll() is not None and not _has_begun(run, process.pid, before):
            if holding.holder(run) is not None:  # a sweep in the foreground was faster
                return False
            raise NotStarted(
                _last_words(run) or f"the sweep's process ended with status {process.returncode} before it began."
            )
        if time.monotonic() > until:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise NotStarted(f"the sweep's process did not begin within {PATIENCE:.0f} s and was ended; see {log}.")
        time.sleep(0.05)
    threading.Thread(target=process.wait, daemon=True).start()  # no zombie is left when it ends
    return True


def _has_begun(run: Run, pid: int, before: int) -> bool:
    """Whether process `pid` has taken the run since the time `before`: long ago, another process may have had this `pid`."""
    return _taken(run) != before and holding.told(run)["pid"] == pid


def _wait_for_end(pid: int | None, limit: float = 5.0) -> None:
    """Wait until a process of this machine has ended, `limit` seconds at most."""
    until = time.monotonic() + limit
    while pid and pid != os.getpid() and time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):  # it has ended; another user's has its number
            return
        time.sleep(0.05)


def _taken(run: Run) -> int:
    """When a process last took the run in hand, in ns; 0 where none has."""
    try:
        return (run.path / "lock").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _log_lines(run: Run) -> list[str]:
    """The end of the log as a terminal would show it: a bar that was drawn again and again is one line."""
    try:
        with open(run.path / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n") if line.strip()]


def _last_words(run: Run) -> str:
    """What the run's last process said at its end: an error is one sentence there. "" where it wrote no log."""
    log = run.path / "log.txt"
    if not log.exists() or log.stat().st_mtime_ns < _taken(run):
        return ""
    lines = _log_lines(run)
    return "" if not lines or lines[-1].startswith(HEADER) else lines[-1].removeprefix("workbench: ")


def _step(status: JsonObject) -> list[str]:
    """Where in a job it is, in words; [] where nothing was done yet, or in no steps."""
    return [f"{status['stage']} {status['step']}/{status['steps']}"] if status.get("steps") else []


def _left(status: JsonObject) -> str:
    """Time left in words; a stage that was never timed on this machine makes it a lower bound."""
    at_least = "at least " if status["seconds_left_is"] == "at least" else ""
    return at_least + tqdm.format_interval(status["seconds_left"])
