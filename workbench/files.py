"""Where things are kept and how they are written: whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .settings import WorkbenchError


class DiskFull(WorkbenchError):
    """No room for a file that has to be written."""


class CannotWrite(WorkbenchError):
    """A file or folder cannot be written for another reason (rights, read-only disk)."""


def home() -> Path:
    """Where runs, store, models and presets live: $WORKBENCH_HOME, else `experiments/` of the checkout, else of the cwd."""
    if moved := os.environ.get("WORKBENCH_HOME"):
        return Path(moved).expanduser().resolve()
    checkout = Path(__file__).resolve().parent.parent
    return (checkout if (checkout / "pyproject.toml").exists() else Path.cwd()) / "experiments"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into errors a user can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk is full: {path} could not be written; free some room (or move WORKBENCH_HOME to a bigger "
                "disk) and run the same command again, which continues where it stopped."
            ) from error
        if error.errno in (errno.EEXIST, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR):
            raise CannotWrite(f"{path} cannot be written ({error.strerror}); choose another place.") from error
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash at any moment leaves the old file or the new one, never half of it."""
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide a preset from the server's user
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line and make it durable. A line cut short by a crash is closed off first, never glued to."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            if file.tell() and not _ends_with_newline(file):
                file.write(b"\n")
            file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())


def _ends_with_newline(file) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_lines(path: Path) -> list[Any]:
    """Every whole JSON line of an append-only file; a line cut short by a crash is left out (its work is done again)."""
    lines = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def hash_json(value: Any) -> str:
    """sha256 (hex) of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


_hashes: dict[tuple[str, int, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's content; read again only when its inode, size or modification time changed."""
    stat = path.stat()
    seen = (str(path.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if seen not in _hashes:
        with open(path, "rb") as file:
            _hashes[seen] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[seen]
