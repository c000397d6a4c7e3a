"""Looking after a store: what it holds, and whether all of it is still what was put there."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.errors import DamagedArtefact

from .places import Folder, disk_of
from .store import Entry, Store


def stats(store: Store) -> dict[str, Any]:
    """What lies in `store`, as JSON values; sizes in bytes, times in s (`last_use` since 1970, None for a remote store).

    `artefacts`, `bytes`, `seconds` (of work kept), `last_use`, the same by stage in `stages`; `leftovers` (files of killed
    processes), `pinned` (keys that living processes keep), `limit` (0: none) and `free` on the disk (None: remote).
    """
    entries = store.entries()
    whole = [entry for entry in entries if entry.whole]
    stages: dict[str, list[tuple[Entry, float]]] = {}
    for entry, said in store.marks(whole):
        stages.setdefault(said.get("stage", "damaged"), []).append((entry, said.get("seconds", 0.0)))
    found = {stage: _sums(rows) for stage, rows in sorted(stages.items())}
    rest = [entry for entry in entries if not entry.whole]
    folder = store.place.path if isinstance(store.place, Folder) else None
    return {
        "store": str(store.place),
        **_sums([row for rows in stages.values() for row in rows]),
        "stages": found,
        "leftovers": {"files": sum(len(entry.names) for entry in rest), "bytes": sum(entry.size for entry in rest)},
        "pinned": len(store.pinned()),
        "limit": store.limit,
        "free": disk_of(folder)[1] if folder else None,
    }


def _sums(rows: list[tuple[Entry, float]]) -> dict[str, Any]:
    return {
        "artefacts": len(rows),
        "bytes": sum(entry.size for entry, _ in rows),
        "seconds": round(sum(seconds for _, seconds in rows), 3),
        "last_use": max((entry.used for entry, _ in rows if entry.used is not None), default=None),
    }


@dataclass
class Verified:
    """What `verify` found: artefacts read, {"key", "reason"} of the damaged, names of leftovers; whether it dropped them."""

    store: str
    artefacts: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    dropped: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def verify(store: Store, *, drop: bool = False, progress: Any = None) -> Verified:
    """Read every artefact of `store` and check its hashes; with `drop` the damaged and the leftovers are taken off the disk.

    Safe while others use the store: what was written within the last minute (half a file: ten minutes) is no leftover, for
    its artefact may be about to be finished, and nor is what lies in a remote store, whose age is not known. `progress` is
    a tqdm bar.
    """
    entries = store.entries()
    if progress is not None:
        progress.reset(len(entries))
    found = Verified(str(store.place), dropped=drop)
    for entry in entries:
        bad = False
        if entry.mark in entry.names:
            try:
                store.read(entry.key)
                found.artefacts += 1
            except FileNotFoundError:
                pass  # evicted since it was listed
            except DamagedArtefact as error:
                found.artefacts += 1
                found.damaged.append({"key": entry.key, "reason": str(error)})
                bad = True
        elif entry.idle(time.time()):
            found.leftovers += entry.names
            bad = True
        if bad and drop:
            store.drop(entry)
        if progress is not None:
            progress.update()
    return found
