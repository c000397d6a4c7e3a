"""What lies on the disk, a row each: how much, where, whether it is safe to free, and what getting it back costs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum

from workbench.store import size_words

from .in_use import Holders, holder_words, open_files
from .trees import Removed, Tick, Tree, remove


class Again(IntEnum):
    """What it costs to have it again, the cheapest first: that is the order in which things are freed."""

    NOTHING = 0  # nobody misses it: half a download, a killed process's leftovers
    PACKAGES = 1  # is fetched or compiled again, by the tool, when it is needed
    WORK = 2  # is computed again: finished stages in our store
    WEIGHTS = 3  # gigabytes to be fetched again


@dataclass(frozen=True)
class DiskItem:
    """One thing on the disk.

    Attributes:
        what, where: in words, and its folder.
        bytes: that it takes.
        free: that are free once it is gone; 0 where it is not safe to remove.
        why: what it is for and how it comes back, or why it stays.
        again: what it costs to have it again.
        remove: removes it, or only so many bytes of what is `divisible`, and says what was removed; None where it stays.
        files: inodes of its files, so that they are not counted twice.
    """

    what: str
    where: str
    bytes: int
    free: int = 0
    why: str = ""
    again: Again = Again.NOTHING
    remove: Callable[[int, Tick], Removed] | None = None
    divisible: bool = False
    files: frozenset[int] | set[int] = frozenset()

    @property
    def safe(self) -> bool:
        return self.remove is not None and self.free > 0

    def to_json(self) -> dict[str, object]:
        about = {"what": self.what, "where": self.where, "bytes": self.bytes, "free": self.free, "safe": self.safe}
        return {**about, "why": self.why, "again": self.again.name.lower() if self.safe else None}


def plain_name(path: str) -> str:
    """A path as one line: line breaks, control characters and bytes that are no UTF-8 are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path)


def kept(what: str, tree: Tree, why: str) -> DiskItem:
    """Something that stays, for the reason `why`."""
    return DiskItem(what, tree.part.folder, tree.bytes, why=why, files=set(tree.files))


def linked(what: str, folder: str) -> DiskItem:
    """A folder in whose place a link stands."""
    return DiskItem(what, folder, 0, why="a link stands in its place, and no link is followed")


def removable(
    what: str, trees: list[Tree], why: str, again: Again, holders: Holders, locks: tuple[str, ...] = ()
) -> DiskItem:
    """Something that may go, if no process holds any of it, or one of the files `locks`, and its folder is ours to change."""
    first, files = trees[0], {inode for tree in trees for inode in tree.files}
    size, free = sum(tree.bytes for tree in trees), sum(tree.free for tree in trees)
    if problem := next((words for tree in trees if (words := _stays(tree, holders, locks))), None):
        return DiskItem(what, first.part.folder, size, why=problem, files=files)

    def take(wanted: int, tick: Tick) -> Removed:
        removed, now = Removed(), open_files()  # a process may have opened some of it while its user was asked
        for tree in trees:
            removed += Removed(left=len(tree.files)) if _stays(tree, now, locks) else remove(tree, tick)
        return removed

    if free < size:
        why += f"; {size_words(size - free)} of it are hard links to installed files, and going frees nothing"
    return DiskItem(what, first.part.folder, size, free, why, again, take, files=files)


def _stays(tree: Tree, holders: Holders, locks: tuple[str, ...]) -> str | None:
    """Why a tree cannot be removed now; None where it can."""
    which = tree.single | tree.folders | _identities(tree.part.folder, locks)
    if held := next((holders[each] for each in which if each in holders), None):
        return f"in use by {holder_words(held)}"
    if not os.access(tree.part.folder, os.W_OK | os.X_OK):
        return "only its owner may change it; as root (sudo) it can be freed"
    return None


def _identities(folder: str, names: tuple[str, ...]) -> set[tuple[int, int]]:
    found = set()
    for name in names:
        with suppress(OSError):
            about = os.lstat(os.path.join(folder, name))
            found.add((about.st_dev, about.st_ino))
    return found
