"""Which files running processes have open, so that none is taken from under one. Nothing where there is no /proc of Linux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
Holders = dict[tuple[int, int], int]


def open_files() -> Holders:
    """{(device, inode): a process} of what processes have open, mapped into memory, run, or stand in.

    Of other users' processes only root sees this.
    """
    found: Holders = {}
    known: dict[str, tuple[int, int] | None] = {}
    for process in _processes():
        for path in _held(PROC / str(process)):
            if path not in known:
                known[path] = _identity(path)
            if (identity := known[path]) is not None:
                found.setdefault(identity, process)
    return found


def holder_words(process: int) -> str:
    """`process 1234 (python)`"""
    try:
        name = (PROC / str(process) / "comm").read_text().strip()
    except OSError:
        return f"process {process}"
    return f"process {process} ({name})"


def _processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdigit() and int(name) != os.getpid()]
    except OSError:
        return []


def _held(process: Path) -> Iterator[str]:
    """Paths of what one process holds; nothing where it has ended or is another user's."""
    yield from (str(process / name) for name in ("cwd", "exe"))
    try:
        yield from (f"{process}/fd/{name}" for name in os.listdir(process / "fd"))
        # the device in it is not the one that stat says on overlay file systems, so that its path is looked up instead
        for line in (process / "maps").read_bytes().splitlines():
            if (at := line.find(b"/")) > 0 and not line.startswith(b"["):
                yield os.fsdecode(line[at:].replace(b"\\012", b"\n"))
    except OSError:
        return


def _identity(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)
    except OSError:
        return None
    return about.st_dev, about.st_ino
