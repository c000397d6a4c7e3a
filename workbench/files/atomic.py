"""Where things are kept and how they are written: whole or not at all."""

from __future__ import annotations

import codecs
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workbench.errors import CannotWrite, DiskFull


def home() -> Path:
    """Where runs, store, models and presets live: $WORKBENCH_HOME, else `experiments/` of the checkout, else of the cwd."""
    if moved := os.environ.get("WORKBENCH_HOME"):
        return Path(moved).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[2]
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "experiments"


def read_text(path: Path) -> str:
    """A text file that a person wrote: UTF-8, with or without the mark that some editors put in front.

    Raises `OSError`, and `ValueError` that says what it is instead.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:  # UTF-16 without its mark
        raise ValueError("it is UTF-16 text, or none; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8 text; save it as UTF-8") from None


def no_room(error: BaseException) -> bool:
    """Whether the system refused to write for want of room: on the disk, of a quota, or by a limit of file sizes."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into errors a user can act on."""
    try:
        yield
    except OSError as error:
        if no_room(error):
            why = "the limit of file sizes (ulimit -f) is reached" if error.errno == errno.EFBIG else "the disk is full"
            raise DiskFull(
                f"{why}: {path} could not be written; free some room (workbench disk says what may go), or move "
                "WORKBENCH_HOME to a bigger disk, and run the same command again, which continues where it stopped."
            ) from error
        if isinstance(error, BlockingIOError | InterruptedError):
            raise
        raise CannotWrite(f"{path} cannot be written ({error.strerror}); choose another place.") from error


def check_writable(path: Path) -> None:
    """Raise what `write_atomic` would: to be asked before an hour's work whose result goes there. Makes the folder."""
    with writing(path):
        if path.is_dir():
            raise CannotWrite(f"{path} cannot be written (it is a folder); name a file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        os.unlink(temporary)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash at any moment leaves the old file or the new one, never half of it.

    Its folder is made; one that somebody deletes between two steps of this (a store that is cleared while a sweep runs), too.
    """
    path = Path(path)
    with writing(path):
        for _ in range(DELETED):
            try:
                return _write(path, data)
            except FileNotFoundError:
                continue
        _write(path, data)


DELETED = 3  # how often in a row a folder may be gone again before that is an error


def _write(path: Path, data: bytes) -> None:
    with _replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, for what is too large for `write_atomic`: it is at `path` when the block has ended without an
    error, whole and on disk, and otherwise what was there before is. Raises `DiskFull`, `CannotWrite`."""
    with writing(path), _replacing(path) as file:
        yield file


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide a preset from the server's user
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path` among all threads and processes of this machine; a killed process lets go of it.

    Yields whether it is held: False only where another holds it and `wait` is False.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
