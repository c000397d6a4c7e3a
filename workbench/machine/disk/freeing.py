"""The smallest safe set that frees so many bytes, and freeing it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

from .items import Again, DiskItem
from .looking import DiskLook
from .trees import Tick

FEW = 14  # things of which all 16,384 sets are tried; of more the largest are taken first


@dataclass(frozen=True)
class Proposal:
    """What would be freed.

    Attributes:
        wanted: bytes that were asked for; None for everything that is safe.
        parts: (item, bytes of it), what costs least to have again first.
        available: bytes that are safe to free in all.
    """

    wanted: int | None
    parts: list[tuple[DiskItem, int]]
    available: int

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.parts)

    @property
    def enough(self) -> bool:
        return self.wanted is None or self.bytes >= self.wanted

    @property
    def fetched_again(self) -> int:
        """Bytes of weights among it that are to be fetched again, should anything need them."""
        return sum(size for item, size in self.parts if item.again == Again.WEIGHTS)

    def to_json(self) -> dict[str, object]:
        parts = [{**item.to_json(), "free": size} for item, size in self.parts]
        about = {"wanted": self.wanted, "proposed": self.bytes, "available": self.available, "enough": self.enough}
        return {**about, "fetched_again": self.fetched_again, "parts": parts}


@dataclass
class Freed:
    """What was freed.

    Attributes:
        parts: (item, bytes that its removal set free).
        files: that were removed.
        left: files that stay: changed since they were looked at, or not yours to remove.
    """

    parts: list[tuple[DiskItem, int]] = field(default_factory=list)
    files: int = 0
    left: int = 0

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.parts)

    def to_json(self) -> dict[str, object]:
        parts = [{"what": item.what, "where": item.where, "bytes": size} for item, size in self.parts]
        return {"freed": self.bytes, "files": self.files, "left": self.left, "parts": parts}


def propose(look: DiskLook, wanted: int | None) -> Proposal:
    """The set that frees at least `wanted` bytes and costs least to have again; everything that is safe for None.

    What costs nothing goes first, then packages, then finished stages, then weights; of one kind so little as suffices. Where
    everything together is not enough, everything is in it and it is not `enough`.
    """
    parts: list[tuple[DiskItem, int]] = []
    for again in Again:
        items = [item for item in look.items if item.safe and item.again == again]
        missing = None if wanted is None else wanted - sum(size for _, size in parts)
        parts += _some(items, missing)
    return Proposal(wanted, parts if wanted is None else _needed_only(parts, wanted), look.safe)


def _some(items: list[DiskItem], missing: int | None) -> list[tuple[DiskItem, int]]:
    """So few bytes of items of equal cost as suffice; all of them where they do not."""
    if missing is not None and missing <= 0:
        return []
    if missing is None or sum(item.free for item in items) <= missing:
        return [(item, item.free) for item in items]
    if items[0].divisible:
        return [(items[0], missing)]
    return [(item, item.free) for item in _smallest(items, missing)]


def _smallest(items: list[DiskItem], missing: int) -> list[DiskItem]:
    """The set with the fewest bytes that has at least `missing`, and of those the one with the fewest items."""
    if len(items) > FEW:
        return _largest_first(items, missing)
    sets = (chosen for count in range(1, len(items) + 1) for chosen in combinations(items, count))
    return list(min((c for c in sets if _free(c) >= missing), key=lambda chosen: (_free(chosen), len(chosen))))


def _largest_first(items: list[DiskItem], missing: int) -> list[DiskItem]:
    chosen: list[DiskItem] = []
    for item in sorted(items, key=lambda item: -item.free):
        if _free(chosen) < missing:
            chosen.append(item)
    over = _free(chosen) - missing
    for item in sorted(chosen, key=lambda item: -item.free):
        if item.free <= over:
            chosen.remove(item)
            over -= item.free
    return chosen


def _free(items: tuple[DiskItem, ...] | list[DiskItem]) -> int:
    return sum(item.free for item in items)


def _needed_only(parts: list[tuple[DiskItem, int]], wanted: int) -> list[tuple[DiskItem, int]]:
    """Without what a larger part has made superfluous, the dearest first; what nobody misses goes in any case."""
    over = sum(size for _, size in parts) - wanted
    kept = []
    for item, size in sorted(parts, key=lambda part: (-part[0].again, -part[1])):
        if item.again > Again.NOTHING and 0 < size <= over:
            over -= size
        else:
            kept.append((item, size))
    return sorted(kept, key=lambda part: (part[0].again, -part[1]))


def free(proposal: Proposal, tick: Tick = lambda files: None) -> Freed:
    """Remove what is proposed, and nothing else. What was removed before an interruption stays removed.

    Every file is looked at again immediately before. What in between came to be used, changed or replaced stays.
    """
    freed = Freed()
    for item, size in proposal.parts:
        if item.remove is None:
            continue
        removed = item.remove(size, tick)
        freed.parts.append((item, removed.bytes))
        freed.files += removed.files
        freed.left += removed.left
    return freed
