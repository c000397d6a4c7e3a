"""What the actions on a picture hand over: the whole PNG with its settings inside, and the settings as text.

The page has small JPEGs; a PNG of some MB crosses to it only when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

from workbench.errors import NoPicture
from workbench.files import hash_json, infotext, picture_chunks, png_bytes
from workbench.recipe import Bench, stage_keys
from workbench.settings import Settings

from .panels import Background, Message, Panel, sentence

KEPT = 1000  # pictures that are known: a slider that is dragged makes a new one every second


@dataclass(frozen=True)
class HandedFile:
    """A picture as a file: its `name`, the A1111 `text` of its settings, and `png`, which gives its bytes."""

    name: str
    text: str
    png: Callable[[], bytes]


class FileMessage(Message):
    """Asks for the picture `id`: its "png", or the "text" of its settings. The answer names the `token`."""

    id: str
    what: Literal["png", "text"]
    token: str


class FileAnswer(TypedDict, total=False):
    """The answer: the name of the file and the text, or a sentence on why there is none."""

    token: str
    name: str
    text: str
    error: str


class PicturePanel(Panel):
    """A panel whose pictures can be saved and copied; the script's half is `actions.js`."""

    def __init__(self, look: Callable[[], None] | None = None, /, **traits: object) -> None:
        super().__init__(look, **traits)
        self.handing = Background(self._failed)  # beside `work`: a PNG that is made again may take a minute

    def file_of(self, key: str) -> HandedFile:
        """The picture of that id. Raises what its script is to say."""
        raise NotImplementedError

    def _do_file(self, message: FileMessage) -> None:
        self.handing.submit(self._hand, message)

    def _hand(self, message: FileMessage) -> None:
        answer, data = FileAnswer(token=message["token"]), list[bytes]()
        try:
            file = self.file_of(message["id"])
            data = [file.png()] if message["what"] == "png" else []
            answer |= FileAnswer(name=file.name, text=file.text)
        except Exception as error:  # whatever it is: the page waits for an answer
            answer["error"] = sentence(error)
        self.send(answer, buffers=data)


class MadePictures:
    """The pictures that a bench has made, by an id that stands for one of them."""

    def __init__(self, at: Callable[[], Bench]) -> None:
        """`at`: gives the bench whose store has them."""
        self._at = at
        self._known: dict[str, tuple[Settings, str]] = {}

    def know(self, key: str, settings: Settings, stage: str = "") -> None:
        """`key` stands for the picture of these settings after `stage`; after the last one, if that is left out."""
        self._known[key] = settings, stage
        if len(self._known) > KEPT:
            self._known.pop(next(iter(self._known)), None)

    def file(self, key: str) -> HandedFile:
        """Raises `NoPicture` for an id that nobody knows."""
        if key not in self._known:
            raise NoPicture("this picture is still being made; wait until it is finished.")
        settings, stage = self._known[key]
        stage = stage or settings.stages[-1]
        name = f"{stage}-{settings.seed}-{hash_json(settings.model_dump())[:6]}.png"
        return HandedFile(name, infotext(settings), lambda: _png(self._at(), settings, stage))


def _png(bench: Bench, settings: Settings, stage: str) -> bytes:
    """The picture from the store, or made again where it has left it: the same to the last bit."""
    keys = stage_keys(settings)
    stored = bench.store.get(keys[stage])
    image = stored.image if stored is not None else bench.generate(settings).stages[stage]
    if stage == settings.stages[-1]:
        return png_bytes(image, picture_chunks(image, settings, keys=keys))
    return png_bytes(image, picture_chunks(image, settings, stage=stage))
