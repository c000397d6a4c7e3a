"""Where things are kept and how they are written: whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import CannotWrite, DiskFull, StillWritten


def home() -> Path:
    """Where runs, store, models and presets live: $WORKBENCH_HOME, else `experiments/` of the checkout, else of the cwd."""
    if moved := os.environ.get("WORKBENCH_HOME"):
        return Path(moved).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[2]
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


def append_line(path: Path, value: Any) -> None:
    """Append one JSON object as a line and make it durable; threads and processes may do so to one file at once.

    A line cut short by a crash or a full disk is closed off first, never glued to.
    """
    line = (json.dumps(value, ensure_ascii=False) + "\n").encode()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # nobody writes between the look at the last byte and our line
            if file.seek(0, os.SEEK_END) and not _ends_with_newline(file):
                line = b"\n" + line
            while line:  # a disk that fills up takes a part, and refuses the rest with ENOSPC
                line = line[file.write(line) :]
            os.fsync(file.fileno())


def _ends_with_newline(file: io.FileIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_lines(path: Path) -> list[Any]:
    """Every whole JSON line of an append-only file; a line cut short by a crash is left out (its work is done again)."""
    return _parse(path.read_bytes()) if path.exists() else []


def _parse(data: bytes) -> list[Any]:
    lines = []
    for line in data.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


class LineReader:
    """Follows an append-only file of JSON lines that others write: `new()` reads only what came since the last call.

    A file that was cut below what was read, or replaced, is read again from its start (as `tail -F` does).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0  # bytes read so far, always the end of a line
        self._before = b""  # the last of them, to recognise the file by

    def new(self) -> list[Any]:
        """The JSON lines finished since the last call, in order; [] while there is no file.

        A line without its newline is still being written (or was cut, until the next `append_line` closes it off):
        it comes with a later call, or never, if it is not whole.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset - len(self._before))
                data = file.read()
                if not data.startswith(self._before):
                    self._offset, self._before = 0, b""
                    file.seek(0)
                    data = file.read()
        except FileNotFoundError:
            self._offset, self._before = 0, b""
            return []
        fresh = data[len(self._before) : data.rfind(b"\n") + 1]
        self._offset += len(fresh)
        self._before = (self._before + fresh)[-256:]
        return _parse(fresh)


def hash_json(value: Any) -> str:
    """sha256 (hex) of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """`record` (JSON values) as JSON gives it back, and its `checksum`."""
    record = json.loads(json.dumps(record))  # tuples become lists and keys text before they are hashed, not after
    return {**record, "checksum": hash_json(record)}


def checksum_holds(record: Any) -> bool:
    """Whether a record read from JSON is the one that `with_checksum` made."""
    if not isinstance(record, dict):
        return False
    return record.get("checksum") == hash_json({name: v for name, v in record.items() if name != "checksum"})


REMEMBERED_FROM = 1_000_000  # bytes; the hash of a smaller file costs less than the look into the cache file
SETTLED = 2_000_000_000  # ns; clocks of file systems tick in up to 2 s, so a younger file may change with no trace

_hashes: dict[tuple[str, int, int, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's content; read again only when its inode, size, mtime or ctime changed.

    For files of 1 MB and more this outlives the process, in `cache/hashes.json` at home: SDXL is 10 GB to read. The ctime
    cannot be set back, so that not even a file changed in place with its size and date restored keeps its old hash.
    Raises `StillWritten`.
    """
    path = path.resolve()
    for _ in range(3):
        stat = path.stat()
        seen = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if known := _hashes.get(seen) or _remembered(seen):
            _hashes[seen] = known
            return known
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        again = path.stat()
        if (again.st_ino, again.st_size, again.st_mtime_ns, again.st_ctime_ns) == seen[1:]:
            if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED:
                _hashes[seen] = found
                _remember(seen, found)
            return found
    raise StillWritten(f"{path} changes while it is read; wait until whatever writes or downloads it has finished.")


def _hash_cache() -> Path:
    return home() / "cache" / "hashes.json"


def _remembered_hashes() -> dict[str, list[Any]]:
    """{real path: [inode, size, mtime_ns, ctime_ns, sha256]}; {} when there are none or the file is damaged."""
    try:
        record = json.loads(_hash_cache().read_bytes())
        return record["files"] if checksum_holds(record) else {}
    except (OSError, ValueError):
        return {}


def _remembered(seen: tuple[str, int, int, int, int]) -> str | None:
    if seen[2] < REMEMBERED_FROM:
        return None
    *stat, known = _remembered_hashes().get(seen[0], [None])
    return known if stat == list(seen[1:]) else None


def _remember(seen: tuple[str, int, int, int, int], found: str) -> None:
    if seen[2] < REMEMBERED_FROM:
        return
    try:
        with locked(_hash_cache().with_suffix(".lock")):  # others add theirs at the same time
            write_json(_hash_cache(), with_checksum({"files": {**_remembered_hashes(), seen[0]: [*seen[1:], found]}}))
    except (CannotWrite, DiskFull):
        return  # a home that cannot be written to is read from all the same; the next process hashes again
