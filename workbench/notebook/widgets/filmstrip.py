"""The tuner's filmstrip: what was tried in its session, the oldest first, and the pinned pictures side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from PIL import Image

from workbench.files import jpeg_bytes
from workbench.settings import Settings

from ..tuning_session import TuningSession, Variant
from .picture_files import HandedFile, MadePictures
from .pictures import Act, Strip, StripItem
from .telling import changed

THUMB = 192  # px of the pictures in the history,
LARGE = 1024  # and of the pinned ones, which may be zoomed into
PIN = 240  # px of a pinned picture's tile
MENU = {"seeds": "4 seeds of this", "compare": "Compare with this", "pin": "Pin"}  # what is done with a picture


@dataclass(frozen=True)
class DeletedPicture:
    """What was deleted last, to be brought back as it was."""

    variant: Variant
    jpeg: bytes
    pinned: bool
    starred: bool


class Filmstrip:
    """The two strips of a session.

    Attributes:
        history, pins: the strips, to be shown.
        session: whose pictures they have.
    """

    def __init__(
        self, session: TuningSession, made: MadePictures, base: Callable[[], Settings], acts: dict[str, Act]
    ) -> None:
        """`made`: gives the pictures' files. `base()`: the settings since which changes are told.

        `acts`: what a tuner does with the id of a picture: "choose", "seeds", "compare"; the others are the strips' own.
        """
        self.session, self._made, self._base = session, made, base
        self._current = ""
        self._thumbs: dict[tuple[int, int, int], bytes] = {}  # {(number, side in px, time of its file): JPEG}
        self._removed: DeletedPicture | None = None
        self._showing = threading.RLock()  # the worker and the strips' own threads show
        own: dict[str, Act] = {"pin": self.pin, "delete": self._delete, "star": self._star, "undo": self._restore}
        self.history = Strip(
            label="History", files=self._file, acts=own | acts, newest_last=True, searchable=True, stars=True,
            menu=[*MENU.items()], removal=["delete", "Delete"],
        )  # fmt: skip
        unpin: dict[str, Act] = {"unpin": self._unpin}
        self.pins = Strip(
            label="Pinned pictures", files=self._file, acts=unpin | acts, tile=PIN, zooms=True, removal=["unpin", "Take out"],
            menu=[(act, MENU[act]) for act in ("seeds", "compare")],
        )  # fmt: skip

    def show(self, current: Variant | None = None) -> None:
        """Look at the session again; `current`: the picture that the viewer shows, the one of before if left out."""
        with self._showing:
            variants = {v.number: v for v in self.session.variants()}
            pinned = [variants[n] for n in self.session.pins if n in variants]
            self._current = str(current.number) if current else self._current
            for key in [*self._thumbs]:
                if key[0] not in variants:
                    self._thumbs.pop(key, None)
            self.history.items = [*self._items([*variants.values()], THUMB)]
            self.pins.items = [*self._items(pinned, LARGE)]
            self.history.starred = [str(n) for n in self.session.favourites if n in variants]
            self.history.current = self.pins.current = self._current

    def _items(self, variants: list[Variant], side: int) -> Iterator[StripItem]:
        """What a strip shows, without pictures that another kernel has removed since they were looked up."""
        for variant in variants:
            with suppress(FileNotFoundError):
                yield self.item(variant, side)

    def picture(self, variant: Variant | None, side: int = THUMB) -> bytes | None:
        """As `thumb`; None where there is none, or none any more."""
        with suppress(FileNotFoundError):
            return self.thumb(variant, side) if variant else None
        return None

    def item(self, variant: Variant, side: int = THUMB) -> StripItem:
        """What a strip shows of a variant. `side`: of its picture in px."""
        version = variant.picture.stat().st_mtime_ns
        sharp = "not measured" if variant.sharpness is None else f"{variant.sharpness:.1f}{' !' * bool(variant.flags)}"
        words = changed(variant.settings, self._base()) or "as in the preset"
        return StripItem(
            id=str(variant.number),
            picture=self.thumb(variant, side),
            version=str(version),
            caption=f"{sharp} · {words}",
            prompt=variant.settings.prompt,
            title=f"Picture {variant.number}: {words}. Press to get these settings back.\n{variant.settings.prompt}",
            face=list(variant.face),
        )

    def thumb(self, variant: Variant, side: int) -> bytes:
        """A variant's picture as JPEG, shrunk to `side` px, once."""
        key = (variant.number, side, variant.picture.stat().st_mtime_ns)
        if key not in self._thumbs:
            image = Image.open(variant.picture)
            image.draft("RGB", (side, side))
            image.thumbnail((side, side))
            self._thumbs[key] = jpeg_bytes(image, 85, fine_colour=True)
        return self._thumbs[key]

    def pin(self, key: str) -> None:
        """Raises `TooManyPins`."""
        self.session.pin(int(key))
        self.show()

    def _unpin(self, key: str) -> None:
        self.session.unpin(int(key))
        self.show()

    def _star(self, key: str) -> None:
        self.session.star(int(key))
        self.history.starred = [str(n) for n in self.session.favourites]

    def _delete(self, key: str) -> None:
        variant = self.session.variant(int(key))
        pinned, starred = (variant.number in marked for marked in (self.session.pins, self.session.favourites))
        self._removed = DeletedPicture(variant, self.session.remove(variant.number), pinned, starred)
        self.show()
        self.history.undo = f"Undo: bring picture {key} back"
        self.history.say(f"Picture {key} was deleted.")

    def _restore(self, _: str) -> None:
        if self._removed is None:
            return
        removed, self._removed, self.history.undo = self._removed, None, ""
        number = removed.variant.number
        self.session.restore(removed.variant, removed.jpeg)
        try:
            if removed.starred:
                self.session.star(number)
            if removed.pinned:
                self.session.pin(number)  # four others may be by now; the picture is back all the same
        finally:
            self.show()

    def _file(self, key: str) -> HandedFile:
        self._made.know(f"variant {key}", self.session.variant(int(key)).settings)
        return self._made.file(f"variant {key}")
