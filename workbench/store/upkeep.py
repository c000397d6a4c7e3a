"""Looking after a store: what it holds, and whether all of it is still what was put there."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from workbench.errors import DamagedArtefact

from .places import Folder, disk_of
from .store import Entry, Store

if TYPE_CHECKING:
    from tqdm import tqdm


@dataclass(frozen=True)
class Amount:
    """How much of a kind a store holds.

    Attributes:
        artefacts: how many.
        bytes: of their files.
        seconds: of work that they save.
        last_use: when one of them was last used, in s since 1970; None without one, and for a remote store.
    """

    artefacts: int
    bytes: int
    seconds: float
    last_use: float | None


@dataclass(frozen=True)
class Leftovers:
    """Files of processes that died before an artefact was finished: how many, and their bytes."""

    files: int
    bytes: int


@dataclass(frozen=True)
class StoreStats:
    """What lies in a store.

    Attributes:
        store: its folder or URL.
        together, stages: its artefacts, all of them and by stage; those whose JSON cannot be read are under "damaged".
        leftovers: what belongs to no artefact.
        pinned: how many keys living processes keep from eviction.
        limit: bytes that it may hold; 0 for any number.
        free: bytes on its disk; None for a remote store.
    """

    store: str
    together: Amount
    stages: dict[str, Amount]
    leftovers: Leftovers
    pinned: int
    limit: int
    free: int | None

    def to_json(self) -> dict[str, object]:
        """JSON values; `together` is not under its name but beside the others."""
        body = asdict(self)
        return {"store": body.pop("store"), **body.pop("together"), **body}


def stats(store: Store) -> StoreStats:
    """Look through `store`, without checking any hash. Raises `StoreUnreachable`."""
    entries = store.entries()
    whole = [entry for entry in entries if entry.whole]
    stages: dict[str, list[tuple[Entry, float]]] = {}
    for entry, mark in store.marks(whole):
        stages.setdefault(mark.stage if mark else "damaged", []).append((entry, mark.seconds if mark else 0.0))
    rest = [entry for entry in entries if not entry.whole]
    return StoreStats(
        store=str(store.place),
        together=_amount([row for rows in stages.values() for row in rows]),
        stages={stage: _amount(rows) for stage, rows in sorted(stages.items())},
        leftovers=Leftovers(sum(len(entry.names) for entry in rest), sum(entry.size for entry in rest)),
        pinned=len(store.pinned()),
        limit=store.limit,
        free=disk_of(store.place.path)[1] if isinstance(store.place, Folder) else None,
    )


def _amount(rows: list[tuple[Entry, float]]) -> Amount:
    """What (artefact, its seconds) come to together."""
    return Amount(
        artefacts=len(rows),
        bytes=sum(entry.size for entry, _ in rows),
        seconds=round(sum(seconds for _, seconds in rows), 3),
        last_use=max((entry.used for entry, _ in rows if entry.used is not None), default=None),
    )


@dataclass
class Verified:
    """What `verify` found.

    Attributes:
        store: its folder or URL.
        artefacts: how many were read.
        damaged: {"key", "reason"} of each that is damaged.
        leftovers: names of files that belong to no artefact.
        dropped: whether the damaged and the leftovers were taken off the disk.
    """

    store: str
    artefacts: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    dropped: bool = False

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def verify(store: Store, *, drop: bool = False, progress: tqdm | None = None) -> Verified:
    """Read every artefact of `store` and check its hashes.

    Others may use the store meanwhile. So a file is no leftover if it was written within the last minute (a half-written one
    within ten), since its artefact may be about to be finished; nor is any file of a remote store, whose age is not known.

    Args:
        drop: take the damaged and the leftovers off the disk.
        progress: a bar that counts what lies in the store.
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
