"""Brings an exported run back: everything is checked before anything appears under its final name.

The files are written into a folder of their own beside the runs, hidden from whoever lists them, and that folder is renamed
when it is whole and on disk. What a killed import has left there goes with the next one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError
from tqdm.auto import tqdm

from workbench.errors import AlreadyThere, BadArchive, BadRun
from workbench.files import checksum_holds, locked, writing

from .archive import (
    CHUNK,
    MANIFEST,
    ArchivedFile,
    Manifest,
    RunArchive,
    archived_presets,
    check_room,
    inner_path,
    run_files,
)
from .run import Run, runs_folder

INCOMING = ".importing"  # a level deeper than runs are looked for
LARGEST_MANIFEST = 2**28  # bytes; one of 100,000 cells has 20 MB
DERIVED = re.compile(r"[^/]*\.(txt|html|csv|png)|status\.json|last_session\.json|request\.json|presets/.*")


def import_run(path: Path, *, quiet: bool = True) -> tuple[RunArchive, bool]:
    """(the run of an archive, whether it was written: False where the very same run is there already).

    Raises:
        BadArchive: it is none, damaged or cut short, or would write outside the run's folder; nothing was written.
        AlreadyThere: a run of that name has other content.
        DiskFull, CannotWrite.
    """
    with _opened(path) as (tar, manifest):
        files, run = manifest.files, Run(runs_folder() / manifest.run)
        about = RunArchive(path, run, len(files), path.stat().st_size, archived_presets(files))
        if run.path.exists():
            _check_same(run, manifest)
            return about, False
        check_room(run.path, sum(file.bytes for file in files.values()), path)
        with _incoming() as folder:
            _unpack(tar, manifest, folder / manifest.run, path, quiet)
            _check_run(Run(folder / manifest.run), manifest, path)
            _publish(folder / manifest.run, run.path)
    return about, True


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tarfile.TarFile, Manifest]]:
    """An archive behind its manifest. Whatever tarfile trips over inside the block is one sentence."""
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise BadArchive(f"{path} is empty; export the run again.")
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield tar, _manifest(tar, path)
    except (
        tarfile.TarError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:  # the latter from headers made to harm
        raise BadArchive(
            f"{path} is no archive of a run, or is cut short or damaged ({error}); copy or export it again."
        ) from None
    except IsADirectoryError:
        raise BadArchive(f"{path} is a folder; name the tar that workbench runs export has written.") from None
    except FileNotFoundError as error:
        if error.filename != str(path):
            raise
        raise BadArchive(f"there is no file {path}.") from None


def _manifest(tar: tarfile.TarFile, path: Path) -> Manifest:
    first = tar.next()
    if first is None or not first.isreg() or not first.name.endswith(f"/{MANIFEST}") or first.size > LARGEST_MANIFEST:
        raise BadArchive(
            f"{path} is no archive that workbench runs export has written: it does not begin with a manifest."
        )
    try:
        value = json.loads(_content(tar, first).read())
        if isinstance(value, dict) and value.get("version") != 1:
            raise BadArchive(
                f"{path} is of archive version {value.get('version')!r:.40}, this workbench reads version 1; import it with "
                "the workbench that wrote it."
            )
        manifest = Manifest.model_validate(value)
    except (ValueError, RecursionError, ValidationError):
        raise BadArchive(
            f"the manifest of {path} cannot be read: it is damaged or no run's; export it again."
        ) from None
    if not checksum_holds(value):
        raise BadArchive(
            f"the manifest of {path} was altered or damaged: its checksum does not match; export the run again."
        )
    if first.name != f"{manifest.run}/{MANIFEST}" or "/" in manifest.run or not inner_path(manifest.run):
        raise BadArchive(f"{path} holds a run named '{manifest.run:.80}', which no run can be; nothing was written.")
    _check_names(manifest, path)
    return manifest


def _check_names(manifest: Manifest, path: Path) -> None:
    """Raise `BadArchive` for a path that would leave the run's folder, or be a file and a folder at once."""
    folders = {str(folder) for name in manifest.files for folder in PurePosixPath(name).parents}
    for name in manifest.files:
        if not inner_path(name) or name in folders or name == MANIFEST:
            raise BadArchive(f"{path} holds '{name:.200}', which is no path in a run's folder; nothing was written.")
    if "run.json" not in manifest.files:
        raise BadArchive(f"{path} holds no run.json, so it is no run.")


@contextmanager
def _incoming() -> Iterator[Path]:
    """A folder on the disk of the runs, gone afterwards. One import at a time: what else is there, killed ones have left."""
    place = runs_folder() / INCOMING
    with locked(place / "lock"):
        for left in place.iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        with writing(place):
            folder = Path(tempfile.mkdtemp(dir=place))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _unpack(tar: tarfile.TarFile, manifest: Manifest, folder: Path, path: Path, quiet: bool) -> None:
    """Write the files of an archive; each is there once, is a plain file, and has the manifest's size and hash."""
    left = dict(manifest.files)
    total = sum(file.bytes for file in left.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc=path.name, disable=quiet) as bar:
        while (member := tar.next()) is not None:
            name = member.name.removeprefix(f"{manifest.run}/")
            about = left.pop(name, None) if member.name != name else None
            if about is None:
                why = "is there twice" if name in manifest.files else "is not in its manifest"
                raise BadArchive(f"'{member.name:.200}' of {path} {why}; nothing was written.")
            if not member.isreg() or member.issparse():
                raise BadArchive(f"'{member.name:.200}' of {path} is no plain file; nothing was written.")
            if member.size != about.bytes:
                raise _damaged(name, path)
            _write(_content(tar, member), folder / name, about, path)
            bar.update(about.bytes)
    if left:
        raise BadArchive(
            f"{path} is cut short: {next(iter(left))} and {len(left) - 1} more are missing; copy it again."
        )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return content


def _damaged(name: str, path: Path) -> BadArchive:
    return BadArchive(f"{name} in {path} is damaged: it is not what was exported; copy or export the archive again.")


def _write(content: IO[bytes], to: Path, about: ArchivedFile, path: Path) -> None:
    digest = hashlib.sha256()
    with writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        with open(to, "xb") as file:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.utime(to, ns=(about.mtime_ns, about.mtime_ns))
    if digest.hexdigest() != about.sha256:
        raise _damaged(to.name, path)


def _check_run(run: Run, manifest: Manifest, path: Path) -> None:
    """Raise `BadArchive` where its files are no run, or where records name pictures elsewhere, which reports would show."""
    try:
        records = [line for line in run.lines("cell") if "picture" in line]
        _ = run.about, run.created
    except BadRun as error:
        raise BadArchive(f"{path} holds no whole run ({str(error).partition(': ')[2].partition(';')[0]}).") from None
    for record in records:
        if not inner_path(str(record["picture"])):
            raise BadArchive(
                f"{path}: the picture of cell {record['cell']} is '{record['picture']:.200}', which lies elsewhere."
            )


def _publish(folder: Path, to: Path) -> None:
    """Rename a whole folder, when it and the names in it are on disk."""
    with writing(to):
        for each in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            _sync(each)
        try:
            os.rename(folder, to)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise AlreadyThere(f"{to} was made while this was read; import it again.") from None
            raise
        _sync(to.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check_same(run: Run, manifest: Manifest) -> None:
    """Raise `AlreadyThere` where a run is not the one of the archive. What is drawn from records may be another drawing."""
    there = {name: file.sha256 for name, file in run_files(run).items() if not DERIVED.fullmatch(name)}
    if there == {name: file.sha256 for name, file in manifest.files.items() if not DERIVED.fullmatch(name)}:
        return
    try:
        recorded = f"{len(run.records())} of {run.about['cells']} cells are recorded"
    except BadRun:
        recorded = "it cannot be read"
    raise AlreadyThere(
        f"{run.path} is there already with other content ({recorded} there, {manifest.recorded} of {manifest.cells} in the "
        "archive); move that folder out of the runs' folder, or delete it, and import again."
    )
