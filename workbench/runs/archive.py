"""A run as one tar file, to be taken off a machine that is deleted. `unpacking` brings it back.

The tar is a plain one, readable anywhere: a folder of the run's name, with `manifest.json` first, which has the sha256 of
every other file, and these in the order of their names. The same run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from tqdm.auto import tqdm

from workbench.errors import AlreadyThere, BadPreset, CannotWrite, DiskFull, PresetNotFound, StillWritten
from workbench.files import check_writable, package_version, replacing, with_checksum
from workbench.presets import Preset, history, list_presets, load_preset, preset_changes

from .run import Run

MANIFEST, ARCHIVED_PRESETS = "manifest.json", "presets"
PASSING = {
    "lock",
    "workers",
    "starting",
    "stop",
    "then.txt",
    "claims",
    MANIFEST,
}  # of a process at work, not of the run
# others may append to them meanwhile: what is whole now is taken
GROWING = {"journal.jsonl", "votes.jsonl", "marks.jsonl"}
CHUNK, ROOM = 2**20, 2**26  # bytes read at once; free bytes that are left on a disk


class ArchivedFile(BaseModel):
    """What a manifest says of a file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    mtime_ns: Annotated[int, Field(ge=0, lt=2**63)]  # kept, since a journal knows when its pictures were written


class Manifest(BaseModel):
    """The first file of an archive.

    Attributes:
        workbench: the version that wrote it.
        cells, recorded: of the run, and how many of them have a record.
        files: {path in the run's folder: what it is}.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["workbench-run"]
    version: Literal[1]
    workbench: str
    run: str
    cells: int
    recorded: int
    files: dict[str, ArchivedFile]
    checksum: str


@dataclass(frozen=True)
class RunArchive:
    """An archive that was written, or read in: its file, the run, how many files and bytes of it, the presets among them."""

    path: Path
    run: Run
    files: int
    bytes: int
    presets: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        about = {"run": self.run.id, "path": str(self.run.path), "archive": str(self.path)}
        return {**about, "files": self.files, "bytes": self.bytes, "presets": [*self.presets]}


@dataclass(frozen=True)
class _Member:
    """A file of an archive: where its bytes are, the first `about.bytes` of them."""

    path: Path
    about: ArchivedFile


def export_run(run: Run, path: Path | None = None, *, force: bool = False, quiet: bool = True) -> RunArchive:
    """Write all that belongs to a run into one tar, whole or not at all: what lies in its folder, and the presets that it
    began with or became, with their evidence.

    A run that a process works on is taken as it is now: its whole journal lines, and pictures that are there.

    Args:
        path: of the tar; `RUN.tar` in the current folder, if left out.
        force: replace a file that is there.

    Raises:
        AlreadyThere, BadRun, DiskFull, CannotWrite, StillWritten.
    """
    path = path or Path(f"{run.id}.tar")
    check_export(run, path, force=force)
    members = _members(run)
    recorded = len(run.records())
    body = {
        "format": "workbench-run", "version": 1, "workbench": package_version(), "run": run.id, "cells": run.about["cells"],
        "recorded": recorded, "files": {name: member.about.model_dump() for name, member in members.items()},
    }  # fmt: skip
    newest = max(member.about.mtime_ns for member in members.values())
    total = sum(member.about.bytes for member in members.values())
    check_room(path.absolute().parent, total, path)
    with (
        replacing(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
        tqdm(total=total, unit="B", unit_scale=True, desc=path.name, disable=quiet) as bar,
    ):
        manifest = json.dumps(with_checksum(body), indent=1, ensure_ascii=False).encode()
        tar.addfile(_header(f"{run.id}/{MANIFEST}", len(manifest), newest), io.BytesIO(manifest))
        for name, member in members.items():
            _add(tar, f"{run.id}/{name}", member)
            bar.update(member.about.bytes)
    return RunArchive(path, run, len(members), path.stat().st_size, archived_presets(members))


def run_files(run: Run) -> dict[str, ArchivedFile]:
    """{path in a run's folder: what it is now} of the files that an archive of it has, but for presets from outside."""
    return {name: _member(path).about for name, path in _own_files(run)}


def archived_presets(files: Mapping[str, object]) -> tuple[str, ...]:
    """The files of presets among those of an archive, without their folder."""
    return tuple(name.partition("/")[2] for name in files if name.startswith(f"{ARCHIVED_PRESETS}/"))


def check_room(folder: Path, needed: int, what: Path) -> None:
    """Raise `DiskFull` where the disk of `folder` has no `needed` bytes for `what`: said before anything is written."""
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed + ROOM:
        raise DiskFull(
            f"{what} needs {needed / 1e6:.0f} MB, and the disk of {there} has {free / 1e6:.0f} MB free; free some room or "
            "name another disk."
        )


def check_export(run: Run, path: Path | None, *, force: bool = False) -> None:
    """Raise what `export_run` would of its target: to be asked before the time that a report takes."""
    path = path or Path(f"{run.id}.tar")
    if path.absolute().is_relative_to(run.path.absolute()):
        raise AlreadyThere(f"{path} lies in the run's own folder, and would be part of itself; name another place.")
    if path.is_file() and not force:
        raise AlreadyThere(f"{path} is there already; name another file with -o, or replace it with --force.")
    check_writable(path)


def _members(run: Run) -> dict[str, _Member]:
    """{path in the archive: the file}, by name. The journal first: what it names was written before its line."""
    own = {name: _member(path) for name in sorted(GROWING) if (path := run.path / name).is_file()}
    own |= {name: _member(path) for name, path in _own_files(run) if name not in own}
    for name, path in _related_presets(run):
        member = _member(path)
        if (
            name in own and own[name].about.sha256 != member.about.sha256
        ):  # it came with the run, and is another one today
            name = f"{name.removesuffix('.json')}-{member.about.sha256[:8]}.json"
        own[name] = member
    return dict(sorted(own.items()))


def _own_files(run: Run) -> Iterator[tuple[str, Path]]:
    """(name, path) of what lies in a run's folder and is not of a process at work, nor half written."""
    for path in sorted(run.path.rglob("*")):
        parts = path.relative_to(run.path).parts
        if path.is_file() and parts[0] not in PASSING and not any(part.startswith(".") for part in parts):
            if not inner_path(name := "/".join(parts)):
                raise CannotWrite(f"{name!r} in {run.path} has a name that no archive can hold; rename that file.")
            yield name, path


def inner_path(name: str) -> bool:
    """Whether a path is plain and stays inside the folder that it is relative to. Hidden files are none of a run's."""
    parts = name.split("/")
    plain = all(part and not part.startswith(".") and len(part.encode(errors="replace")) <= 255 for part in parts)
    return plain and len(parts) <= 16 and not any(sign == "\0" or 0xD800 <= ord(sign) < 0xE000 for sign in name)


def _member(path: Path) -> _Member:
    digest = hashlib.sha256()
    try:
        stat = path.stat()
        size = _whole_lines(path, stat.st_size) if path.name in GROWING else stat.st_size
        for chunk in _chunks(path, size):
            digest.update(chunk)
    except OSError as error:
        raise CannotWrite(f"{path} cannot be read ({error.strerror}), and would be missing in the archive.") from None
    return _Member(path, ArchivedFile(bytes=size, sha256=digest.hexdigest(), mtime_ns=max(0, stat.st_mtime_ns)))


def _whole_lines(path: Path, size: int) -> int:
    """How many of the first `size` bytes are whole lines: the last one may be half written."""
    with open(path, "rb") as file:
        while size:
            begin = max(0, size - CHUNK)
            file.seek(begin)
            if (end := file.read(size - begin).rfind(b"\n")) >= 0:
                return begin + end + 1
            size = begin
    return 0


def _chunks(path: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file; fewer where it has become shorter."""
    with open(path, "rb") as file:
        while size and (chunk := file.read(min(CHUNK, size))):
            size -= len(chunk)
            yield chunk


def _header(name: str, size: int, mtime_ns: int) -> tarfile.TarInfo:
    """Nothing in it is of this machine or moment: no owner, no rights."""
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = size, mtime_ns // 10**9, 0o644
    return header


def _add(tar: tarfile.TarFile, name: str, member: _Member) -> None:
    """Raises `StillWritten` where the file is no longer what the manifest says of it."""
    reader = _Reader(member.path)
    with reader.file:
        tar.addfile(_header(name, member.about.bytes, member.about.mtime_ns), cast("IO[bytes]", reader))
    if reader.digest.hexdigest() != member.about.sha256:
        raise _changed(member.path)


def _changed(path: Path) -> StillWritten:
    return StillWritten(f"{path} was written anew while it was archived; export the run again.")


class _Reader:
    """A file that is read once, with the hash of what was read."""

    def __init__(self, path: Path) -> None:
        self._path, self.digest = path, hashlib.sha256()
        try:
            self.file = open(path, "rb")  # noqa: SIM115 (whoever reads closes it)
        except OSError:
            raise _changed(path) from None

    def read(self, size: int) -> bytes:
        """The next `size` bytes. Raises `StillWritten` where there are fewer: an OSError would be taken for the tar's."""
        try:
            found = self.file.read(size)
        except OSError:
            found = b""
        if len(found) < size:
            raise _changed(self._path)
        self.digest.update(found)
        return found


def _related_presets(run: Run) -> Iterator[tuple[str, Path]]:
    """(name in the archive, file) of the preset that a run began with, and of all that were chosen or judged by it, those
    that were replaced since included."""
    with suppress(PresetNotFound, BadPreset):
        if path := load_preset(run.about["spec"]["preset"]).path:
            yield f"{ARCHIVED_PRESETS}/{path.stem}.json", path
    own = [(preset.path, preset) for preset in list_presets()]
    names = {preset.name for preset in list_presets()} | {change.name for change in preset_changes()[0]}
    old = [(each.path, each.preset) for name in sorted(names) for each in history(name)]
    for path, preset in own + old:
        if path and preset and path.is_file() and run.id in _runs_behind(preset):
            yield f"{ARCHIVED_PRESETS}/{path.stem}.json", path


def _runs_behind(preset: Preset) -> set[str | None]:
    """The runs that a preset's evidence names: what chose it, and what judged it."""
    return {sample["run"] for sample in preset.evidence.get("used", [])} | {preset.evidence.get("run")}
