"""A small memory of what was made last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Kept = TypeVar("Kept")


class Newest(Generic[Kept]):
    """Keeps the newest `limit` of what it was asked for."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()

    def __call__(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """What is kept under `key`, which `make` makes if it is not there."""
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)
        return self._kept[key]

    def drop(self, which: Callable[[Any], bool]) -> None:
        """Keep no longer what has such keys."""
        self._kept = OrderedDict((key, kept) for key, kept in self._kept.items() if not which(key))
