"""Looking through the disk: every known thing on it, and the largest folders of what is not known. Removes nothing."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from workbench.files import home
from workbench.presets import Preset

from .caches import cache_home, cache_items, temporary_items
from .hub import hub_items
from .in_use import open_files
from .items import DiskItem
from .own import KeptWeights, needed_of_hub, own_items, weights_of
from .programs import conda_items, docker_items
from .trees import BLOCK, Tick

OTHERS = 8  # folders of unknown things that are named


@dataclass(frozen=True)
class DiskLook:
    """What fills a disk.

    Attributes:
        top: the folder at which the disk is mounted.
        total, free: its bytes; `free` as far as you may use them.
        items: what is known, the largest first.
        others: {folder: bytes} of what is not known, the largest first; {} where it was not looked for.
        rest: bytes of what is not known outside `others`.
        unreadable: folders that could not be looked into, so that what is in them is not counted.
        preset: the chosen one's name, and `needs` the weights that it names; "" without one.
    """

    top: str
    total: int
    free: int
    items: list[DiskItem]
    others: dict[str, int] = field(default_factory=dict)
    rest: int = 0
    unreadable: int = 0
    preset: str = ""
    needs: list[KeptWeights] = field(default_factory=list)

    @property
    def safe(self) -> int:
        """Bytes that can be freed in all."""
        return sum(item.free for item in self.items if item.safe)

    def to_json(self) -> dict[str, object]:
        return {
            "disk": self.top,
            "total": self.total,
            "free": self.free,
            "safe": self.safe,
            "items": [item.to_json() for item in self.items],
            "others": self.others,
            "rest": self.rest,
            "unreadable": self.unreadable,
            "preset": self.preset or None,
            "needs": [need.to_json() for need in self.needs],
        }


def look_at_disk(
    preset: Preset | None = None,
    *,
    on: Path | None = None,
    unknown: bool = True,
    tick: Tick = lambda files: None,
) -> DiskLook:
    """What fills a disk, and what of it is safe to free.

    Args:
        preset: what it needs is kept, as is what every preset on this machine needs.
        on: something on the disk that is meant, else the workbench's home is.
        unknown: also add up what is not known, for which every folder of the disk is looked at.
        tick: is called with the number of files that were looked at.
    """
    there = _existing(on or home())
    device, top = os.stat(there).st_dev, disk_top(there)
    items = [_on(item, device) for item in _items(preset, tick)]
    usage = shutil.disk_usage(there)
    look = DiskLook(str(top), usage.total, usage.free, sorted(items, key=lambda item: -item.bytes))
    if preset:
        look = replace(look, preset=preset.name, needs=weights_of(preset))
    return _with_others(look, tick) if unknown else look


def disk_top(path: Path) -> Path:
    """The folder at which the disk that has `path` is mounted."""
    return next(
        (p for p in (path, *path.parents) if p.parent == p or os.stat(p.parent).st_dev != os.stat(p).st_dev), path
    )


def _existing(path: Path) -> Path:
    path = path.expanduser().resolve()
    return next(each for each in (path, *path.parents) if each.exists())


def _items(preset: Preset | None, tick: Tick) -> Iterator[DiskItem]:
    holders = open_files()
    yield from cache_items(holders, tick)
    yield from temporary_items(holders, tick)
    yield from hub_items(needed_of_hub(preset), holders, tick)
    yield from own_items(tick)
    yield from conda_items(tick)
    yield from docker_items()


def _on(item: DiskItem, device: int) -> DiskItem:
    """The item; one that is on another disk stays, since removing it makes no room on this one."""
    try:
        elsewhere = os.path.isabs(item.where) and os.stat(item.where).st_dev != device
    except OSError:
        return item
    return replace(item, remove=None, free=0, why=f"on another disk (--on {item.where})") if elsewhere else item


def _with_others(look: DiskLook, tick: Tick) -> DiskLook:
    known = {inode for item in look.items for inode in item.files}
    skipped = {item.where for item in look.items if item.what == "store"}
    found, unreadable = _unknown(look.top, known, skipped, tick)
    largest = dict(found.most_common(OTHERS))
    rest = sum(found.values()) - sum(largest.values())
    return replace(look, others=largest, rest=rest, unreadable=unreadable)


def _unknown(top: str, known: set[int], skipped: set[str], tick: Tick) -> tuple[Counter[str], int]:
    """({folder: bytes} one level below the top, the user's home, its cache and the workbench's home; folders not readable)"""
    apart = {os.path.realpath(path) for path in (top, Path.home(), cache_home(), home())}
    apart |= {str(parent) for path in list(apart) for parent in Path(path).parents if str(parent).startswith(top)}
    device, sizes, seen, unreadable = os.stat(top).st_dev, Counter[str](), set[int](), 0
    waiting = [(os.path.realpath(top), os.path.realpath(top))]
    while waiting:
        folder, under = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = [
                    (entry.path, entry.stat(follow_symlinks=False), entry.is_dir(follow_symlinks=False))
                    for entry in entries
                ]
        except OSError:
            unreadable += 1
            continue
        tick(len(found))
        for path, about, is_folder in found:
            if path in skipped or about.st_ino in known or (is_folder and about.st_dev != device):
                continue
            if is_folder:
                waiting.append((path, path if folder in apart else under))
            elif about.st_nlink == 1 or about.st_ino not in seen:
                sizes[under] += about.st_blocks * BLOCK
                if about.st_nlink > 1:
                    seen.add(about.st_ino)
    return sizes, unreadable
