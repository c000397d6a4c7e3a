"""Append-only files of JSON lines, which threads and processes write at once and a crash cannot spoil."""

from __future__ import annotations

import fcntl
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .atomic import writing

Line = Any  # a JSON object; its reader knows what is in it
Known = Callable[[object], bool]
"""Whether a line is one that its reader knows: those of another shape are left out, as if they had not been written."""


def is_object(line: object) -> bool:
    """Whether a line is a JSON object."""
    return isinstance(line, dict)


def append_line(path: Path, value: Mapping[str, object]) -> None:
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


def read_lines(path: Path, known: Known = is_object) -> list[Line]:
    """Every whole JSON line of an append-only file that is `known`.

    A line that a crash has cut short is left out (its work is done again), and so is one of another shape.
    """
    return _parse(path.read_bytes(), known)[0] if path.exists() else []


def odd_lines(path: Path, known: Known) -> int:
    """How many lines of a file are JSON, but not `known`."""
    return _parse(path.read_bytes(), known)[1] if path.exists() else 0


def _parse(data: bytes, known: Known) -> tuple[list[Line], int]:
    """(the lines that are known, how many are not)"""
    lines, odd = [], 0
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except ValueError:  # cut short
            continue
        except RecursionError:
            odd += 1
            continue
        if known(value):
            lines.append(value)
        else:
            odd += 1
    return lines, odd


class LineReader:
    """Follows an append-only file of JSON lines that others write: `new()` reads only what came since the last call.

    A file that was cut below what was read, or replaced, is read again from its start (as `tail -F` does).
    """

    def __init__(self, path: Path, known: Known = is_object) -> None:
        self.path, self._known = path, known
        self._offset = 0  # bytes read so far, always the end of a line
        self._before = b""  # the last of them, to recognise the file by

    def new(self) -> list[Line]:
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
        return _parse(fresh, self._known)[0]
