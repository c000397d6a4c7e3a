"""The scores of a sweep's pictures, measured once for all cells whose pictures are equal: where no face was found to restore,
every weight gives the same one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from workbench.files import pixels_sha256

if TYPE_CHECKING:
    from PIL import Image

KEPT = 256  # pictures whose scores are remembered, 2 KB each; equal ones follow each other closely

Scores = tuple[str, dict[str, Any]]
"""What `scores.cell_scores` returns."""


class ScoredOnce:
    """Remembers scores by the pixels of a picture and of those it is compared with. Several threads may ask at once."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, ...], Scores] = OrderedDict()
        self._locks: dict[tuple[str, ...], threading.Lock] = {}  # of pictures that are being scored
        self._lock = threading.Lock()

    def of(self, image: Image.Image, reference: Image.Image, first: Image.Image) -> tuple[str, dict[str, Any], bool]:
        """(status, JSON values, whether they were measured now) as `scores.cell_scores` gives them, and raises.

        What it raised is not remembered: the next who asks tries again. Values are for reading only.
        """
        from workbench import scores  # loads torch, which looking at runs does not need
        from workbench.models import beside

        own = pixels_sha256(image)
        alike = (own, *(own if other is image else pixels_sha256(other) for other in (reference, first)))
        with self._lock:
            scoring = self._locks.setdefault(alike, threading.Lock())
        with scoring:  # whoever scores the same meanwhile is waited for
            with self._lock:
                known = self._known.get(alike)
            if known is None:
                with beside():  # networks may be read meanwhile
                    measured = scores.cell_scores(image, reference, first)
            else:
                measured = known
            with self._lock:
                self._known[alike] = measured
                self._locks.pop(alike, None)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
        return *measured, known is None
