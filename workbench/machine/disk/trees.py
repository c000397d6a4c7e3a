"""Folders looked through, and made smaller, without following a link: what was not looked at is not removed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

Tick = Callable[[int], object]
BLOCK = 512  # bytes of one of stat's st_blocks, whatever the file system's own
DEPTH = 100  # folders below the first that are entered; each one open is a file descriptor, of which 1,024 are usual


@dataclass(frozen=True)
class KnownFolder:
    """A folder of a known shape.

    Attributes:
        folder: its absolute path; no part of it is a link.
        tops: patterns of the names directly in it that are entered, in the order in which they are removed: what points to a
            file goes before the file, so that an interruption leaves nothing that looks whole and is not.
        wanted: whether a file is of the known shape, by its path in the folder.
        itself: whether the folder goes, too, once it is empty.
        links: whether symbolic links are part of the shape; they go, what they point to stays.
    """

    folder: str
    tops: tuple[str, ...]
    wanted: Callable[[str], bool]
    itself: bool = False
    links: bool = True

    def turn(self, name: str) -> int | None:
        """When an entry of the folder is removed; None where it is not known and stays."""
        return next((n for n, top in enumerate(self.tops) if re.fullmatch(top, name, re.S)), None)


@dataclass
class Tree:
    """What was looked at in a known folder, without the folders that lie on another file system.

    Only folders are asked for theirs: in a container (overlayfs) files may name another device than their folder.

    Attributes:
        identity: (device, inode) of the folder.
        files: {inode: time of its last change in ns} of every file of the known shape.
        single: (device, inode) of those that have no other name than those here.
        folders: (device, inode) of the folders entered.
        bytes: that the files take on the disk.
        free: those of them that are free once all files are gone: hard links elsewhere keep theirs.
        newest: when one of them was last changed, in s since 1970.
        unreadable: folders that could not be looked into.
    """

    part: KnownFolder
    identity: tuple[int, int]
    files: dict[int, int] = field(default_factory=dict)
    single: set[tuple[int, int]] = field(default_factory=set)
    folders: set[tuple[int, int]] = field(default_factory=set)
    bytes: int = 0
    free: int = 0
    newest: float = 0.0
    unreadable: int = 0


@dataclass
class Removed:
    """What was really removed: files, the bytes that this set free, and files that stay because they cannot be removed or
    are not what was looked at any more."""

    files: int = 0
    bytes: int = 0
    left: int = 0

    def __iadd__(self, other: Removed) -> Removed:
        self.files, self.bytes, self.left = self.files + other.files, self.bytes + other.bytes, self.left + other.left
        return self


def reached(path: Path, below: Path) -> tuple[str, bool]:
    """(`path` with the links above `below` resolved, whether a link stands between `below` and it).

    `/home` may be a link, and a folder that a variable names may lie behind one; a cache that is one is not followed.
    """
    real = os.path.realpath(below)
    linked = False
    for name in path.relative_to(below).parts:
        real = os.path.join(real, name)
        linked = linked or os.path.islink(real)
    return real, linked


def look(part: KnownFolder, tick: Tick = lambda files: None) -> Tree | None:
    """Look through a known folder; None where there is none."""
    try:
        about = os.lstat(part.folder)
    except OSError:
        return None
    if not stat.S_ISDIR(about.st_mode):
        return None
    tree = Tree(part, (about.st_dev, about.st_ino))
    links: dict[tuple[int, int], list[int]] = {}  # which file: [names seen, names that there are, bytes]
    for inner, found in _files(tree, tick):
        if (stat.S_ISREG(found.st_mode) or (part.links and stat.S_ISLNK(found.st_mode))) and part.wanted(inner):
            _count(tree, found, links)
    for which, (seen, names, size) in links.items():
        if seen >= names:
            tree.free += size
            tree.single.add(which)
    return tree


def _count(tree: Tree, found: os.stat_result, links: dict[tuple[int, int], list[int]]) -> None:
    tree.newest = max(tree.newest, found.st_mtime)
    if found.st_ino not in tree.files:
        tree.bytes += found.st_blocks * BLOCK
    tree.files[found.st_ino] = found.st_mtime_ns
    links.setdefault(_identity(found), [0, found.st_nlink, found.st_blocks * BLOCK])[0] += 1


def _files(tree: Tree, tick: Tick) -> Iterator[tuple[str, os.stat_result]]:
    """(path in the folder, stat) of everything below that is no folder; links are themselves, not what they point to."""
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(os.path.join(tree.part.folder, inner)) as entries:
                found = list(entries)
        except OSError:
            tree.unreadable += 1
            continue
        tick(len(found))
        for entry in found:
            name = f"{inner}/{entry.name}" if inner else entry.name
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone since it was listed
            if not inner and tree.part.turn(name) is None:
                continue
            if not stat.S_ISDIR(about.st_mode):
                yield name, about
            elif about.st_dev == tree.identity[0] and name.count("/") < DEPTH:
                tree.folders.add(_identity(about))
                waiting.append(name)


def remove(tree: Tree, tick: Tick = lambda files: None) -> Removed:
    """Remove the files that were looked at, and the folders that this leaves empty.

    Each is looked at again in its folder immediately before: another file, or a link, that has taken its place stays.
    """
    removed = Removed()
    with opened(tree.part.folder) as handle:
        if handle is None or _identity(os.fstat(handle)) != tree.identity:
            removed.left = len(tree.files)
            return removed
        names = [(turn, name) for name in os.listdir(handle) if (turn := tree.part.turn(name)) is not None]
        for _, name in sorted(names):
            _remove_entry(tree, handle, name, name, removed, tick)
    if tree.part.itself and removed.files:
        with (
            opened(os.path.dirname(tree.part.folder)) as parent,
            suppress(OSError),
        ):  # something else is in it, and stays
            os.rmdir(os.path.basename(tree.part.folder), dir_fd=parent)
    return removed


def _remove_entry(tree: Tree, parent: int, name: str, inner: str, removed: Removed, tick: Tick) -> bool:
    """Remove one file, or what is in one folder. Returns whether anything was removed."""
    try:
        about = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(about.st_mode):
            return _identity(about) in tree.folders and _remove_inside(tree, parent, name, inner, removed, tick)
        if not tree.part.wanted(inner):
            return False
        if tree.files.get(about.st_ino) != about.st_mtime_ns:
            removed.left += 1
            return False
        os.unlink(name, dir_fd=parent)
    except OSError:  # not ours to remove, or gone meanwhile
        removed.left += os.path.lexists(os.path.join(tree.part.folder, inner))
        return False
    removed.files += 1
    removed.bytes += about.st_blocks * BLOCK if about.st_nlink == 1 else 0
    return True


def _remove_inside(tree: Tree, parent: int, name: str, inner: str, removed: Removed, tick: Tick) -> bool:
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if _identity(os.fstat(handle)) not in tree.folders:
            return False
        names = sorted(os.listdir(handle))
        gone = [_remove_entry(tree, handle, each, f"{inner}/{each}", removed, tick) for each in names]
    finally:
        os.close(handle)
    if any(gone):
        with suppress(OSError):  # something else is in it, and stays
            os.rmdir(name, dir_fd=parent)
    tick(len(gone))
    return any(gone)


@contextmanager
def opened(folder: str) -> Iterator[int | None]:
    """A descriptor of `folder`, opened name by name from the root so that no link is passed; None where one stands there."""
    handle = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in Path(folder).parts[1:]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
    except OSError:
        os.close(handle)
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino
