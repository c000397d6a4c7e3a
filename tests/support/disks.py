"""Caches as the tools leave them, in folders of a test's own, and what changed in them."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

MB = 1_000_000
MAIN, OLD = "a" * 40, "b" * 40  # commits of a hub repository
Snapshot = dict[bytes, tuple[object, ...]]


def snapshot(folder: Path) -> Snapshot:
    """{path: what it is, whose, what is in it} of everything below; the store's lock and pins are its own affair."""
    found: Snapshot = {}
    for parent, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            about = os.lstat(path)
            if stat.S_ISLNK(about.st_mode):
                found[path] = ("link", os.readlink(path))
            elif stat.S_ISDIR(about.st_mode):
                found[path] = ("folder", about.st_mode)
            elif name != b"lock" and os.access(path, os.R_OK):
                with open(path, "rb") as file:
                    found[path] = ("file", about.st_mode, about.st_mtime_ns, about.st_size, file.read(1000))
    return found


def gone(before: Snapshot, after: Snapshot) -> set[str]:
    """Files that are gone, all else being what it was; empty folders may go with what was in them."""
    assert not {path for path in after if before.get(path) != after[path]}, "something was changed or made"
    return {os.fsdecode(path) for path in before.keys() - after.keys() if before[path][0] != "folder"}


def write(path: Path, size: int = 1000, *, days: float = 3.0) -> Path:
    """A file of so many bytes, last changed so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(min(size, 1000)) + bytes(max(0, size - 1000)))
    return aged(path, days)


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * 86400
    os.utime(path, (then, then), follow_symlinks=False)
    return path


def pip_cache(folder: Path, files: int = 3, size: int = 10_000) -> list[Path]:
    """What `pip download` leaves."""
    made = []
    for number in range(files):
        name = hashlib.sha224(str(number).encode()).hexdigest()
        inner = folder / "http-v2" / "/".join(name[:5])
        made += [write(inner / name, 100), write(inner / f"{name}.body", size)]
    return [*made, write(folder / "selfcheck" / f"{'c' * 56}", 50)]


def uv_cache(folder: Path, archives: int = 2, size: int = 10_000) -> list[Path]:
    """What `uv pip install` leaves."""
    folder.mkdir(parents=True)
    (folder / "CACHEDIR.TAG").write_bytes(b"Signature: 8a477f597d28d172789f06886806bc55")
    (folder / ".lock").touch()
    made = []
    for number in range(archives):
        made.append(write(folder / f"archive-v0/{'x' * 20}{number}" / "package" / "module.so", size))
        made.append(write(folder / "wheels-v8" / "pypi" / f"package{number}" / "1.0.msgpack", 100))
    return made


def hub_repo(hub: Path, name: str, revisions: dict[str, dict[str, int]], refs: dict[str, str]) -> Path:
    """A repository in the Hugging Face cache: {commit: {file: number of its blob, which is so many kB}}."""
    repo = hub / f"models--{name.replace('/', '--')}"
    for commit, files in revisions.items():
        for file, number in files.items():
            blob = repo / "blobs" / hashlib.sha256(str(number).encode()).hexdigest()
            if not blob.exists():
                write(blob, number * 1000)
            link = repo / "snapshots" / commit / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    for ref, commit in refs.items():
        path = repo / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)
    return repo


def program(folder: Path, name: str, script: str) -> Path:
    """A program of that name, which is a shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
