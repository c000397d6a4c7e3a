"""Who works on a run: its first worker, those that join it, and that all of them would make the same pictures."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import IO

from pydantic import TypeAdapter
from tqdm.auto import tqdm
from typing_extensions import TypedDict

from workbench.errors import OddFile, OtherPictures, RunBusy
from workbench.files import read_typed, write_atomic, writing
from workbench.runs import Run
from workbench.settings import Settings

from .likeness import differing, facts

STOPPING = 60.0  # s to wait for a worker that was asked to stop: it does within one denoising step


def stop(run: Run) -> None:
    """Ask whoever works on a run to stop: they do within one denoising step, and keep what is finished."""
    write_atomic(run.path / "stop", f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}\n".encode())


class Holding:
    """This process's hold on a run: as its first worker, or as one that joins the first.

    The first worker holds a lock on the run's file `lock`, and writes what a sweep leaves at its end.
    """

    def __init__(self, run: Run, join: bool) -> None:
        self._run, self._join = run, join
        self._file: IO[str] | None = None

    @property
    def first(self) -> bool:
        return self._file is not None

    def __enter__(self) -> Holding:
        if not self.inherit() and not self._join and not self._inherit_soon():
            raise RunBusy(
                f"{_holder(self._run)} is working on {self._run.id}; look on with workbench runs watch {self._run.id}, "
                f"end it with workbench runs stop {self._run.id}, or help it with --join."
            )
        if self.first:
            (self._run.path / "stop").unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def _inherit_soon(self) -> bool:
        """Become the first worker when the one that was asked to stop has done so."""
        until = time.monotonic() + STOPPING
        if (self._run.path / "stop").exists():
            tqdm.write(f"workbench: {_holder(self._run)} was asked to stop; waiting for it.", file=sys.stderr)
        while (self._run.path / "stop").exists() and time.monotonic() < until:
            if self.inherit():
                return True
            time.sleep(0.1)
        return self.inherit()

    def inherit(self) -> bool:
        """Become the first worker if there is none (any more)."""
        with writing(self._run.path):
            file = open(self._run.path / "lock", "a+")  # noqa: SIM115 (held as long as the run is)
        for _ in range(3):  # one who only looks (`holder`) has it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
        else:
            file.close()
            return False
        about = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now().isoformat(" ", "seconds")}
        with writing(self._run.path / "lock"):
            file.truncate(0)
            file.write(json.dumps(about))
            file.flush()
        self._file = file
        return True


class Holder(TypedDict):
    """A process that works on a run."""

    pid: int
    host: str
    since: str  # local time


HOLDER: TypeAdapter[Holder] = TypeAdapter(Holder)
UNKNOWN = Holder(pid=0, host="an unknown machine", since="some time")


def told(run: Run) -> Holder:
    """The process that took a run last, as it has written; `UNKNOWN` where it has not yet, or nobody can read it."""
    try:
        return read_typed(run.path / "lock", HOLDER)
    except (FileNotFoundError, OddFile):
        return UNKNOWN


def _holder(run: Run) -> str:
    about = told(run)
    return f"process {about['pid']} on {about['host']}, since {about['since']}," if about["pid"] else "another process"


def holder(run: Run) -> Holder | None:
    """The process that works on a run now; None when nobody does."""
    try:
        with open(run.path / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return told(run)
    except FileNotFoundError:
        pass
    return None


@contextmanager
def working(run: Run, digest: str, s: Settings, about: Callable[[], dict[str, str]] | None = None) -> Iterator[None]:
    """Inside, this process works on a run, as its first worker or beside others.

    Each worker's content keys are those of its own machine, so that unlike ones would make each other's cells again.

    Args:
        digest: equal for workers that make the same pictures.
        s: the settings of one cell.
        about: gives what its pictures depend on; `facts` of this process, if left out.

    Raises:
        OtherPictures: it says in what this process and the one at work differ.
    """
    tell = about or partial(facts, s)
    with writing(run.path):
        file = open(run.path / "workers", "a+")  # noqa: SIM115 (held as long as the work takes)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # others are at work, and the first of them has said what it is
            fcntl.flock(file, fcntl.LOCK_SH)
            said = next(iter(run.lines("machine")[::-1]), None)
            if said and said["digest"] != digest:
                raise OtherPictures(differing(said["host"], said["facts"], tell())) from None
        else:
            run.append("machine", {"digest": digest, "facts": tell(), "host": platform.node(), "pid": os.getpid()})
            fcntl.flock(file, fcntl.LOCK_SH)
        yield
