"""Hashes of JSON values and of files, and records that carry their own checksum."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from workbench.errors import CannotWrite, DiskFull, StillWritten

from .atomic import home, locked, write_json


def hash_json(value: object) -> str:
    """sha256 (hex) of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def with_checksum(record: Mapping[str, object]) -> dict[str, object]:
    """`record` (JSON values) as JSON gives it back, and its `checksum`."""
    record = json.loads(json.dumps(record))  # tuples become lists and keys text before they are hashed, not after
    return {**record, "checksum": hash_json(record)}


def checksum_holds(record: object) -> bool:
    """Whether a record read from JSON is the one that `with_checksum` made."""
    if not isinstance(record, dict):
        return False
    return record.get("checksum") == hash_json({name: v for name, v in record.items() if name != "checksum"})


REMEMBERED_FROM = 1_000_000  # bytes; the hash of a smaller file costs less than the look into the cache file

SETTLED = 2_000_000_000  # ns; clocks of file systems tick in up to 2 s, so a younger file may change with no trace

_FILES = TypeAdapter(dict[str, tuple[int, int, int, int, str]])
_SAMPLES = TypeAdapter(dict[str, str])
BLOCKS, BLOCK = 64, 4096  # of a file that is known but for its inode, what is read again: 256 KB of 7 GB
_hashes: dict[tuple[str, int, int, int, int], str] = {}


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's content; read again only when its inode, size, mtime or ctime changed.

    For files of 1 MB and more this outlives the process, in `cache/hashes.json` at home: SDXL is 10 GB to read. The ctime
    cannot be set back, so that not even a file changed in place with its size and date restored keeps its old hash.
    Network volumes may number their inodes anew at each mount; there a file whose size, mtime and ctime are as they were is
    known by 64 blocks that are read of it. (What that would miss is another file of equal size whose mtime and ctime are
    both forged, and whose 64 blocks are equal; no two checkpoints are.) Raises `StillWritten`.
    """
    path = path.resolve()
    for _ in range(3):
        stat = path.stat()
        seen = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if known := _hashes.get(seen) or _remembered(path, seen):
            _hashes[seen] = known
            return known
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        again = path.stat()
        if (again.st_ino, again.st_size, again.st_mtime_ns, again.st_ctime_ns) == seen[1:]:
            if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED:
                _hashes[seen] = found
                _remember(path, seen, found)
            return found
    raise StillWritten(f"{path} changes while it is read; wait until whatever writes or downloads it has finished.")


def known_sha256(path: Path) -> str:
    """`file_sha256` where it costs little: of a file that was read before, or is small; else ""."""
    path = path.resolve()
    try:
        stat = path.stat()
        seen = (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        small = path.is_file() and stat.st_size < REMEMBERED_FROM
        return _hashes.get(seen) or _remembered(path, seen) or (file_sha256(path) if small else "")
    except (OSError, StillWritten):
        return ""


def _hash_cache() -> Path:
    return home() / "cache" / "hashes.json"


def _remembered_hashes() -> tuple[dict[str, tuple[int, int, int, int, str]], dict[str, str]]:
    """({real path: [inode, size, mtime_ns, ctime_ns, sha256]}, {real path: `_sample`}); empty where the file is damaged."""
    try:
        record = json.loads(_hash_cache().read_bytes())
        if not checksum_holds(record):
            return {}, {}
        return _FILES.validate_python(record["files"]), _SAMPLES.validate_python(record.get("samples", {}))
    except (OSError, ValueError, KeyError, RecursionError):
        return {}, {}


def _sample(path: Path, size: int) -> str:
    """Hash of `BLOCKS` blocks of a file, spread over it from its first byte to its last."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for number in range(BLOCKS):
            file.seek(max(0, size - BLOCK) * number // (BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def _remembered(path: Path, seen: tuple[str, int, int, int, int]) -> str | None:
    if seen[2] < REMEMBERED_FROM:
        return None
    files, samples = _remembered_hashes()
    known = files.get(seen[0])
    if known is None or known[1:4] != seen[2:]:
        return None
    if known[0] != seen[1] and samples.get(seen[0]) != _sample(path, seen[2]):
        return None
    return known[4]


def _remember(path: Path, seen: tuple[str, int, int, int, int], found: str) -> None:
    if seen[2] < REMEMBERED_FROM:
        return
    sample = _sample(path, seen[2])
    try:
        with locked(_hash_cache().with_suffix(".lock")):  # others add theirs at the same time
            files, samples = _remembered_hashes()
            known = {"files": {**files, seen[0]: (*seen[1:], found)}, "samples": {**samples, seen[0]: sample}}
            write_json(_hash_cache(), with_checksum(known))
    except (CannotWrite, DiskFull):
        return  # a home that cannot be written to is read from all the same; the next process hashes again
