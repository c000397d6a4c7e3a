"""A command that follows a sweep, like one that shuts a rented machine down: also where the sweep's process is killed.

A small process of its own waits at a pipe whose other end the sweep's process holds. What that writes there at its end says
how the sweep ended. Where the pipe closes and nothing was written, that process was killed, by hand or for want of memory. So
only Ctrl-C, or the death of the small process itself, keeps the command from being run.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal, Self

from workbench.errors import Cancelled, CommandFailed, NotStarted

if TYPE_CHECKING:
    from workbench.runs import Run

SweepEnd = Literal["done", "failed", "stopped"]
WORDS: dict[str, str] = {
    "done": "the sweep is done",
    "failed": "the sweep has failed",
    "stopped": "the sweep was stopped",
}
CALLED_OFF, READY = "called off", b"ready\n"
OUTPUT = "then.txt"  # in the run's folder: what the command said
SHOWN = 20  # last lines of it that are shown
SYNC = 60.0  # s that the disks get before the command; a network disk that hangs must not keep a machine on


class Afterwards:
    """Runs a shell command when a sweep has ended: when all is done, when it failed or was killed, and when `runs stop` ended
    it. Not after Ctrl-C, whose sender is there, and not where the sweep never began. It waits for others at the same run.

    The command's environment has WORKBENCH_RUN, the run, and WORKBENCH_STATUS: done, failed (cells that failed, too) or
    stopped. Leaving the block raises `CommandFailed` where the sweep is done and the command fails.
    """

    def __init__(self, command: str | None) -> None:
        """`command`: None for no command."""
        self.command = command
        self._run: Run | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._hangup: object = None

    def begun(self, run: Run) -> None:
        """From here on the command will be run. Raises `NotStarted` where there is no process to see to it."""
        if self.command is None:
            return
        self._run, self._watcher = run, _watcher(self.command, run)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            self._hangup = signal.signal(signal.SIGHUP, self._hung_up)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        """The terminal is gone, as when a connection is lost: the sweep goes on, and says into its log what it says."""
        assert self._run is not None
        log = os.open(self._run.path / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.command is None:
            return
        if self._watcher is None or self._run is None:
            _say("the sweep did not begin, so the command of --then is not run.")
            return
        try:
            self._follow(self._watcher, self._run, error)
        finally:
            if self._hangup is not None:
                signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def _follow(self, watcher: subprocess.Popen[bytes], run: Run, error: BaseException | None) -> None:
        ended = CALLED_OFF if isinstance(error, KeyboardInterrupt) else _end(error)
        if ended == CALLED_OFF:
            _say(f"you are here, so the command of --then is not run: {self.command}")
        else:
            why = f" ({str(error).rstrip('.')})" if ended == "failed" else ""
            _say(f"{WORDS[ended]}{why}; now: {self.command}")
        with suppress(BrokenPipeError):
            watcher.communicate(ended.encode())
        if ended == CALLED_OFF:
            return
        said = _last_lines(run.path / OUTPUT)
        if said:
            _say("\n".join(said), "")
        if watcher.returncode == 0:
            _say("the command ended with status 0.")
            return
        failure = f"the command of --then ended with status {watcher.returncode}; its output is in {run.path / OUTPUT}."
        if error is None:
            raise CommandFailed(f"the sweep is done, but {failure}")
        _say(failure)


def _end(error: BaseException | None) -> SweepEnd:
    if error is None:
        return "done"
    return "stopped" if isinstance(error, Cancelled) else "failed"


def _say(words: str, before: str = "workbench: ") -> None:
    sys.stderr.write(f"{before}{words}\n")
    sys.stderr.flush()


def _last_lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[-SHOWN:]
    except OSError:
        return []


def _watcher(command: str, run: Run) -> subprocess.Popen[bytes]:
    """The small process, when it is ready: in a session of its own, which neither a Ctrl-C nor a closed terminal reaches."""
    words = [sys.executable, "-m", __name__, command, str(run.path)]
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        raise NotStarted(
            f"the process that would run the command of --then cannot be started ({error.strerror})."
        ) from None
    if process.stdout is None or process.stdout.readline() != READY:
        raise NotStarted("the process that would run the command of --then ended at once; what it said is above.")
    return process


# --- in the small process, which imports nothing that takes memory -----------------------------------------------------


def watch(command: str, folder: Path) -> int:
    """Wait for the end of a sweep and run the command; its exit status."""
    os.write(1, READY)
    ended = sys.stdin.read()
    if ended == CALLED_OFF:
        return 0
    for name in ("lock", "workers"):  # held by each process that works on the run; helpers outlive one that was killed
        _wait_until_free(folder / name)
    syncing = threading.Thread(target=os.sync, daemon=True)
    syncing.start()
    syncing.join(SYNC)
    status = _run(command, folder, ended or _found(folder))
    return status if status >= 0 else 128 - status


def _wait_until_free(lock: Path) -> None:
    try:
        with open(lock, "r+b") as file:  # NFS locks for itself only what it may write
            while True:
                try:
                    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.2)
    except OSError:  # not there, or on a disk without locks
        return


def _found(folder: Path) -> SweepEnd:
    """How a sweep ended whose process was killed: helpers may have finished it."""
    from workbench.runs import Run

    try:
        states = Run(folder).states()
    except Exception:  # whatever is wrong with it, the command is run
        return "failed"
    return "failed" if states["to_do"] or states["failed"] else "done"


def _run(command: str, folder: Path, ended: str) -> int:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])  # where workbench is
    env = {**os.environ, "WORKBENCH_RUN": folder.name, "WORKBENCH_STATUS": ended, "PATH": path}
    try:
        output = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError:  # a full disk costs by the hour, too
        output = subprocess.DEVNULL
    return subprocess.run(
        command, shell=True, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(watch(sys.argv[1], Path(sys.argv[2])))
