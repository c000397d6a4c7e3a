"""How a preset file is replaced: by one process at a time, whole or not at all, and written down once.

Beside the presets lie:

- `history/NAME-STAMP.json`: what was replaced, byte for byte.
- `changes.jsonl`, the log (`change_log`): one line for every change, only ever appended to. It is the one record of who wrote
  which preset, when, why, and on which prompts and seeds it was chosen.
- `.pending`: a change from its beginning to its end. From the moment that this file is there the change has happened: where a
  process is killed after it, every reader takes the change as done, and the next writer does the rest of it.
- `.lock`: held by whoever writes.

Readers write nothing and take no lock.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Unpack
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from workbench.errors import BadPreset, CannotWrite
from workbench.files import locked, write_atomic, writing

from .change_log import (
    LOG,
    ChangeWords,
    Kind,
    PresetChange,
    append_change,
    link_after,
    log_lines,
    logged,
    person,
    take_back_half,
)

PENDING, LOCK = ".pending", ".lock"
STAMP = "%Y%m%dT%H%M%S.%f"


class PendingChange(BaseModel):
    """The file `.pending`: all that is needed to do a change from any point on.

    Attributes:
        file: name of the preset's file.
        old, new: what was in it, and what is to be in it.
    """

    model_config = ConfigDict(strict=True, frozen=True, ser_json_bytes="base64", val_json_bytes="base64")

    change: PresetChange
    file: Annotated[str, StringConstraints(pattern=r"^[^/\x00]+$")]
    old: bytes | None
    new: bytes


@dataclass(frozen=True)
class KeptFile:
    """A preset file that was replaced.

    Attributes:
        path: where it is kept.
        not_yet: its bytes, where the change that replaced it was killed before they were copied there.
    """

    stamp: str
    path: Path
    not_yet: bytes | None = None

    def read(self) -> bytes:
        return self.path.read_bytes() if self.not_yet is None else self.not_yet


# --- reading -----------------------------------------------------------------------------------------------------


def preset_files(folder: Path) -> list[Path]:
    """The preset files of a folder, by name. Hidden files are none: editors and file systems leave them behind."""
    found = {path for path in folder.glob("*.json") if not path.name.startswith(".")}
    begun = _begun(folder)
    return sorted(found | ({folder / begun.file} if begun else set()))


def content(path: Path) -> bytes | None:
    """What is in a preset file; None where there is no such file. Raises `OSError`."""
    begun = _begun(path.parent)  # first: a change that ends after this look has written its file by the next line
    found = _bytes(path)
    if begun and begun.file == path.name and sha256_of(found) == begun.change.replaced:
        return begun.new
    return found


def kept(path: Path) -> list[KeptFile]:
    """What was replaced in the preset file `path`, the last first."""
    found = {stamp: KeptFile(stamp, file) for stamp, file in _stamped(path)}
    if (begun := _begun(path.parent)) and begun.file == path.name:
        stamp, back = begun.change.kept, begun.change.put_back
        if stamp and stamp not in found:
            found[stamp] = KeptFile(stamp, _kept_as(path, stamp), begun.old)
        if back:
            found.pop(back, None)
    return [found[stamp] for stamp in sorted(found, reverse=True)]


def changes(folder: Path, name: str | None = None) -> tuple[list[PresetChange], list[str]]:
    """Every change of the presets in a folder (or of one of them), the oldest first, and what could not be read of the log,
    in sentences."""
    found, problems = logged(folder)
    try:
        begun = _pending(folder)
    except BadPreset as error:
        begun = None
        problems.append(str(error))
    if begun and begun.change.id not in {change.id for change in found}:
        found.append(begun.change)
    return [change for change in found if name in (None, change.name)], problems


# --- writing -----------------------------------------------------------------------------------------------------


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Hold the lock on the presets in a folder. What a killed process left undone is done first.

    Raises `DiskFull`, `CannotWrite`; `BadPreset` where what was left undone is damaged.
    """
    with locked(folder / LOCK):
        if left := _pending(folder):
            _do(folder, left)
        yield


def replace(path: Path, new: bytes, kind: Kind, **said: Unpack[ChangeWords]) -> None:
    """Write `new` into a preset file, `changing` whose folder is held, and keep what was there.

    `said`: what else the log is to have of it. Where that fails nothing has happened. Raises `DiskFull`, `CannotWrite`.
    """
    with writing(path):
        old = _bytes(path)
    if path.is_dir():
        raise CannotWrite(f"{path} cannot be written (it is a folder); rename that, or choose another name.")
    with writing(path.parent / LOG):
        previous = link_after(log_lines(path.parent))
    now = datetime.now(UTC)
    change = PresetChange(
        previous=previous, id=uuid4().hex, kind=kind, name=path.stem, at=now, who=person(),
        replaced=sha256_of(old), written=hashlib.sha256(new).hexdigest(), kept=None if old is None else _new_stamp(path, now),
        **said,
    )  # fmt: skip
    begun = PendingChange(change=change, file=path.name, old=old, new=new)
    write_atomic(path.parent / PENDING, begun.model_dump_json().encode())
    try:
        _do(path.parent, begun)
    except Exception:  # a full disk, say; what it takes to go back needs no room on it
        _undo(path.parent, begun)
        raise


def _do(folder: Path, begun: PendingChange) -> None:
    """Whatever of a change is not done yet."""
    path, change = folder / begun.file, begun.change
    if change.kept and begun.old is not None and not (file := _kept_as(path, change.kept)).exists():
        write_atomic(file, begun.old)
    if sha256_of(_bytes(path)) == change.replaced:  # else it is written, or a person has written something since
        write_atomic(path, begun.new)
    append_change(folder, change)
    if change.put_back:
        _kept_as(path, change.put_back).unlink(missing_ok=True)
    (folder / PENDING).unlink()


def _undo(folder: Path, begun: PendingChange) -> None:
    """Go back to before a change that is not in the log; one that is there has happened, and the next writer ends it."""
    path, change = folder / begun.file, begun.change
    if change.id in {each.id for each in logged(folder)[0]}:
        return
    take_back_half(folder, change)
    if change.kept and (file := _kept_as(path, change.kept)).exists():
        os.replace(file, path)
    elif change.replaced is None:
        path.unlink(missing_ok=True)
    (folder / PENDING).unlink()


# --- files -------------------------------------------------------------------------------------------------------


def _kept_as(path: Path, stamp: str) -> Path:
    return path.parent / "history" / f"{path.stem}-{stamp}.json"


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except FileNotFoundError:  # deleted in between
        return None


def sha256_of(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()


def _stamped(path: Path) -> Iterator[tuple[str, Path]]:
    """(stamp, file) of everything that is kept of a preset."""
    for file in (path.parent / "history").glob("*.json"):
        said = re.fullmatch(re.escape(path.stem) + r"-([0-9]{8}T[0-9]{6}\.[0-9]{6})\.json", file.name)
        if said:  # not those of "production-2"
            yield said[1], file


def _new_stamp(path: Path, now: datetime) -> str:
    """When a preset file that is about to be replaced was written, but later than all that are kept already.

    Clocks of file systems tick in milliseconds, and a copied file may have any date: two files written at one moment are
    both kept, and the last that was replaced has the last stamp.
    """
    written = min(max(path.stat().st_mtime, 0), now.timestamp())
    stamp = datetime.fromtimestamp(written, UTC).strftime(STAMP)
    newest = max((stamp for stamp, _ in _stamped(path)), default="")
    if stamp > newest:
        return stamp
    after = f"{int(re.sub('[T.]', '', newest)) + 1:020d}"
    return f"{after[:8]}T{after[8:14]}.{after[14:]}"


def _pending(folder: Path) -> PendingChange | None:
    """The change that was begun and is not at its end. Raises `BadPreset`."""
    path = folder / PENDING
    try:
        return PendingChange.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        raise BadPreset(
            f"{path} should hold the change of a preset that was interrupted, and cannot be read ({reason(error)}); look "
            "whether your presets are as they should be (workbench presets list), then delete that file."
        ) from None


def _begun(folder: Path) -> PendingChange | None:
    """As `_pending`; None where it is damaged: readers go on with the files as they are, `changes` says it."""
    try:
        return _pending(folder)
    except BadPreset:
        return None


def reason(error: Exception) -> str:
    """Why something could not be read, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ascii(".".join(map(str, first["loc"])))[1:-1][:120]  # its names may be anything
        return f"{where}: {first['msg']}" if where else first["msg"]
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
