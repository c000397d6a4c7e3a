"""The tuner's widgets for pictures: the viewer with its before/after slider, and strips of pictures to press."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict

import anywidget
import traitlets
from PIL import Image

from workbench.files import jpeg_bytes

from .panels import Message
from .picture_files import HandedFile, PicturePanel
from .scripts import script, style

Act = Callable[[str], None]  # what is done with the picture of an id


class Alive(anywidget.AnyWidget):
    """The first child of a panel: says when its kernel is gone, and makes the panel's parts of class `wb-controls` inert."""

    _esm = script("alive")
    _css = style("alive")


class Frame(anywidget.AnyWidget):
    """A tuner's tabs for its two columns, where there is no room for both, and its keys.

    It opens and closes the groups of settings by key, keeps the focus inside when a button goes, and reports Ctrl+Enter.
    """

    _esm = script("frame")
    _css = style("frame")

    def __init__(self, render: Callable[[], None]) -> None:
        """`render()` is called on Ctrl+Enter."""
        super().__init__()
        self.on_msg(lambda *_: render())


class ViewerPicture(TypedDict):
    """A picture in the viewer.

    `id` stands for this very picture, `name` for its place ("refine", "previous"). `about` says what made it, `what` whether
    it is a "preview" or "full", `pending` whether a newer one is being made. `width` and `height` are in px, of the picture
    itself; `picture` is its JPEG.
    """

    id: str
    name: str
    label: str
    about: str
    what: str
    pending: bool
    width: int
    height: int
    picture: bytes


QUALITY = 95  # of the JPEGs looked at: at 80 the ringing around eyelashes is taken for sharpness


def fine_jpeg(image: Image.Image) -> bytes:
    return jpeg_bytes(image, QUALITY, fine_colour=True)


def shown_picture(key: str, name: str, title: str, image: Image.Image, about: str, what: str) -> ViewerPicture:
    """A picture as the viewer takes it."""
    return ViewerPicture(
        id=key,
        name=name,
        label=f"{title} {image.width}×{image.height}",
        about=about,
        what=what,
        pending=False,
        width=image.width,
        height=image.height,
        picture=fine_jpeg(image),
    )


class StripItem(TypedDict):
    """A picture in a strip.

    `picture` is a JPEG, `version` changes with it; `face` is x0, y0, x1, y1 as shares of the picture's sides, [] without
    one; `caption` says how sharp and what is other, `prompt` what it shows; `title` is said when the mouse rests on it.
    """

    id: str
    picture: bytes
    version: str
    caption: str
    prompt: str
    title: str
    face: list[float]


class ActMessage(Message):
    """Asks to do `act` with the picture `id`."""

    act: str
    id: str


class ActingPanel(PicturePanel):
    """Pictures that are handed over as files, and with which acts of its owner's are done."""

    def __init__(self, *, files: Callable[[str], HandedFile], acts: Mapping[str, Act], **traits: object) -> None:
        """`files(id)` gives a picture's file; `acts`: {act: what it does with the id of a picture}."""
        super().__init__(**traits)
        self._files, self._acts = files, acts

    def file_of(self, key: str) -> HandedFile:
        return self._files(key)

    def _do_act(self, message: ActMessage) -> None:
        self.say("")
        self._acts[message["act"]](message["id"])


class Viewer(ActingPanel):
    """One picture at each of its stages, compared with another stage or picture by a slider.

    Attributes:
        stages, others: `ViewerPicture` each; others can only be compared with.
        live: the picture that is being made, behind the stages; [] when none is. By itself, so that the others are not sent
            with each of it.
        shown, against: names of pictures; "" for the last stage, and for a comparison with nothing.
        face: x0, y0, x1, y1 as shares of the picture's sides, [] without one.
        zoom: whether only the face is shown.
        position: of the slider, from 0 (all of `shown`) to 1.
        busy: whether a render is at work.
        stale: names of stages whose picture is not of what the controls are set to; they are dimmed.
        menu: [act, label] of what can be done with the shown picture beside saving it.
    """

    _esm = script("viewer", "actions", "zooming")
    _css = style("viewer", "actions", "zooming")
    stages = traitlets.List([]).tag(sync=True)
    others = traitlets.List([]).tag(sync=True)
    live = traitlets.List([]).tag(sync=True)
    shown = traitlets.Unicode("").tag(sync=True)
    against = traitlets.Unicode("the stage before").tag(sync=True)  # no name: Python chooses one
    face = traitlets.List([]).tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)
    position = traitlets.Float(0.5).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    stale = traitlets.List([]).tag(sync=True)
    menu = traitlets.List([]).tag(sync=True)


class Strip(ActingPanel):
    """A row of pictures to press, each with a menu; "choose" among its acts is what pressing one does.

    Attributes:
        label: its name, for screen readers.
        items: `StripItem` each.
        current: id of the item that is marked.
        zooms: whether its pictures are zoomed together with the viewer's; `zoom`: whether only the faces are shown.
        tile: width of an item in px.
        newest_last: whether it is scrolled to its end when a picture comes.
        searchable: whether it has a search box; `stars`: whether its pictures can be starred.
        starred: ids of those that are.
        menu: [act, label] of what can be done with a picture beside saving it.
        removal: [act, label] of the cross at each picture, [] for none.
        undo: what can be taken back, "" for nothing.
    """

    _esm = script("strip", "actions", "zooming")
    _css = style("strip", "actions", "zooming")
    label = traitlets.Unicode("").tag(sync=True)
    items = traitlets.List([]).tag(sync=True)
    current = traitlets.Unicode("").tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)
    zooms = traitlets.Bool(False).tag(sync=True)
    tile = traitlets.Int(96).tag(sync=True)
    newest_last = traitlets.Bool(False).tag(sync=True)
    searchable = traitlets.Bool(False).tag(sync=True)
    stars = traitlets.Bool(False).tag(sync=True)
    starred = traitlets.List([]).tag(sync=True)
    menu = traitlets.List([]).tag(sync=True)
    removal = traitlets.List([]).tag(sync=True)
    undo = traitlets.Unicode("").tag(sync=True)
