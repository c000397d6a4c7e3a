"""A picture that is dropped on the tuner: its settings are loaded, and how each was read is listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict

import traitlets

from workbench.errors import UnreadablePicture
from workbench.presets.formats import read_picture
from workbench.runs import plain
from workbench.settings import Settings, knobs

from .panels import Message, Panel
from .scripts import script, style

EXACT = "Every setting was read as it was written; the same weights make the same picture again."
LOCKED = "The seed is locked and stays at {}; unlock it and set {} for the same picture."
MOST = 64 * 2**20  # bytes of a dropped file: a PNG of 4096 x 4096 px has 25 to 50 MB


class DropView(TypedDict):
    """What is listed after a drop: `title` in words; label, value and words of each setting that was read; label and
    reason of what was guessed; words and reason of what has no counterpart; sentences. {} before the first drop."""

    title: str
    read: list[list[str]]
    guessed: list[list[str]]
    unmapped: list[list[str]]
    notes: list[str]


class PartMessage(Message):
    """A part of a dropped file; a whole one can be more than a websocket takes at once. `data` are its bytes."""

    name: str
    first: bool
    last: bool
    data: bytes


class DropZone(Panel):
    """A button for a picture file, and the ear of its panel for one that is dropped there. `view`: a `DropView`, or {}."""

    _esm = script("dropping")
    _css = style("dropping")
    view = traitlets.Dict().tag(sync=True)
    most = traitlets.Int(MOST).tag(sync=True)

    def __init__(self, loaded: Callable[[Settings], Settings | None]) -> None:
        """`loaded(settings)` is called with those of a dropped picture; it returns those that are set now, None: these."""
        self._loaded = loaded
        self._parts, self._whole = bytearray(), True
        super().__init__()

    def _received(self, _: object, message: Mapping[str, object], buffers: list[memoryview]) -> None:
        self.work.submit(self._dispatch, {**message, "data": b"".join(buffers)})

    def _do_part(self, message: PartMessage) -> None:
        if message["first"]:
            self._parts, self._whole = bytearray(), True
        if not self._whole:  # what is left of a file that was refused
            return
        self._parts += message["data"]
        if len(self._parts) > MOST:
            self._whole = False
            raise UnreadablePicture(f"{message['name']} has more than {MOST // 2**20} MB; drop a smaller file.")
        if message["last"]:
            data, self._parts = bytes(self._parts), bytearray()
            self._read(data, message["name"])

    def _read(self, data: bytes, name: str) -> None:
        self.view = {}
        found = read_picture(data)
        seed = (self._loaded(found.settings) or found.settings).seed
        exact = [] if found.read else [EXACT]
        if seed != found.settings.seed:
            exact = [LOCKED.format(seed, found.settings.seed)]
        label = {setting: knob.label for setting, knob in knobs().items()}
        self.view = DropView(
            title=f"Loaded the settings of {name}, written by {found.tool}.",
            read=[[label[n], plain(getattr(found.settings, n)), words] for n, words in found.read.items()],
            guessed=[[label[n], why] for n, why in found.guessed.items()],
            unmapped=[[words, why] for words, why in found.unmapped.items()],
            notes=[*exact, *found.notes],
        )
        self.say("")
