"""A picture that is dropped on the tuner: its settings are loaded, and how each was read is listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

import traitlets

from workbench.errors import NoSettingsInPicture, UnreadablePicture
from workbench.files import NamedBytes, has_chunk, read_settings
from workbench.runs import plain
from workbench.settings import Settings, knobs

from .panels import Message, Panel
from .scripts import script, style

MOST = 64 * 2**20  # bytes of a dropped file: a PNG of 4096 x 4096 px has 25 to 50 MB


class SettingsFound(Protocol):
    """Settings that were found in a picture; `presets.formats.Imported` is one.

    Attributes:
        tool: whose picture it is, for people.
        read: {setting: the words it was read from}.
        guessed: {setting: what was guessed, and why}.
        unmapped: {what the picture says: why it has no counterpart}.
        notes: what else there is to know, in sentences.
    """

    @property
    def tool(self) -> str: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def read(self) -> Mapping[str, str]: ...
    @property
    def guessed(self) -> Mapping[str, str]: ...
    @property
    def unmapped(self) -> Mapping[str, str]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class OwnSettings:
    """Those of a picture of the workbench: all of them, exactly."""

    settings: Settings
    tool: str = "the workbench"
    read: Mapping[str, str] = field(default_factory=dict)
    guessed: Mapping[str, str] = field(default_factory=dict)
    unmapped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = (
        "Every setting was read as it was written; the same weights make the same picture again.",
    )


def settings_of(data: bytes, name: str) -> SettingsFound:
    """The settings inside a picture file. `name`: of the file, for errors.

    Raises `UnreadablePicture`, `NoSettingsInPicture`, and what reading another tool's words raises.
    """
    file = NamedBytes(data, name)
    if has_chunk(file):
        return OwnSettings(read_settings(file))
    return _of_another_tool(data, name)


def _of_another_tool(data: bytes, name: str) -> SettingsFound:
    raise NoSettingsInPicture(
        f"{name} carries no settings of the workbench; drop a PNG that the workbench wrote and nothing has re-saved."
    )


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

    def __init__(self, loaded: Callable[[Settings], None]) -> None:
        """`loaded(settings)` is called with those of a dropped picture."""
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
        found = settings_of(data, name)
        self._loaded(found.settings)
        label = {setting: knob.label for setting, knob in knobs().items()}
        self.view = DropView(
            title=f"Loaded the settings of {name}, written by {found.tool}.",
            read=[[label[n], plain(getattr(found.settings, n)), words] for n, words in found.read.items()],
            guessed=[[label[n], why] for n, why in found.guessed.items()],
            unmapped=[[words, why] for words, why in found.unmapped.items()],
            notes=[*found.notes],
        )
        self.say("")
