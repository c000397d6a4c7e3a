"""Disk that other programs look after: docker's images, conda's packages. Only they know what is safe, so they are asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .items import Again, DiskItem, kept
from .trees import KnownFolder, Removed, Tick, Tree, look

PATIENCE = 20.0  # s for an answer; a docker daemon that hangs does not answer at all
ARCHIVES = r"[^/]+\.(conda|tar\.bz2)"
DOCKER = {
    "Images": "docker image prune removes those without a name (safe); with --all also those that no container uses",
    "Containers": "docker container prune removes those that have stopped, with what they wrote",
    "Local Volumes": "data of containers: look before docker volume prune",
    "Build Cache": "docker builder prune removes it; it is built again",
}


def docker_items() -> Iterator[DiskItem]:
    """What docker says of itself. Nothing of it is removed here: the rows name the command to type."""
    if shutil.which("docker") is None:
        return
    answer = _ask(["docker", "system", "df", "--format", "json"])
    if answer is None:
        yield DiskItem("docker", "", 0, why="does not answer (docker system df), so that its size is not known")
        return
    for line in answer.splitlines():
        try:
            row = json.loads(line)
            kind, size = str(row["Type"]), _bytes(str(row["Size"]))
        except (ValueError, KeyError, TypeError):
            continue
        if size and kind in DOCKER:
            yield DiskItem(f"docker {kind.lower()}", "", size, why=f"to be freed by you: {DOCKER[kind]}")


def conda_items(tick: Tick) -> Iterator[DiskItem]:
    """Archives of packages that conda has unpacked; conda itself removes them."""
    for folder in _package_folders():
        tree = look(KnownFolder(folder, (ARCHIVES,), lambda path: re.fullmatch(ARCHIVES, path) is not None), tick)
        if tree is None or not tree.files:
            continue
        program = _conda()
        if program is None:
            yield kept("conda archives", tree, "to be freed by you: conda clean --tarballs (conda is not on the path)")
            continue
        why = "archives of packages conda has unpacked; `conda clean --tarballs` removes them"
        take = partial(_clean, program, tree)
        yield DiskItem(
            "conda archives", folder, tree.bytes, tree.free, why, Again.PACKAGES, take, files=set(tree.files)
        )


def _clean(program: str, tree: Tree, wanted: int, tick: Tick) -> Removed:
    """Let conda remove its archives, and look what it has removed."""
    _ask([program, "clean", "--tarballs", "--yes"], {"CONDA_PKGS_DIRS": tree.part.folder}, patience=600.0)
    left = look(tree.part, tick)
    bytes_left, files_left = (left.free, len(left.files)) if left else (0, 0)
    return Removed(len(tree.files) - files_left, tree.free - bytes_left, files_left)


def _conda() -> str | None:
    return shutil.which("conda") or os.environ.get("CONDA_EXE")


def _package_folders() -> list[str]:
    """The `pkgs` folders of conda that are there; one is known by its urls.txt."""
    roots = [Path.home() / name for name in ("miniconda3", "miniforge3", "anaconda3", "mambaforge")]
    if exe := os.environ.get("CONDA_EXE"):
        roots.append(Path(exe).parent.parent)
    given = [Path(text) for text in re.split("[,:]", os.environ.get("CONDA_PKGS_DIRS", "")) if text]
    found = [os.path.realpath(folder) for folder in (*given, *(root / "pkgs" for root in (*roots, Path("/opt/conda"))))]
    return [folder for folder in dict.fromkeys(found) if os.path.isfile(os.path.join(folder, "urls.txt"))]


def _ask(words: list[str], environment: dict[str, str] | None = None, patience: float = PATIENCE) -> str | None:
    """What a program prints; None where it fails or does not end."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=patience, stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None


def _bytes(text: str) -> int:
    """Bytes of docker's `1.93GB`."""
    match = re.fullmatch(r"([\d.]+)\s*([kMGT]?)B", text)
    return round(float(match[1]) * 1000 ** " kMGT".index(match[2] or " ")) if match else 0
