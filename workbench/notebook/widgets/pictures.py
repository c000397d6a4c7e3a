"""The tuner's widgets for pictures: the viewer with its before/after slider, and strips of pictures to press."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import anywidget
import traitlets
from PIL import Image

from workbench.files import jpeg_bytes

from .scripts import script, style

QUALITY = 95  # of the JPEGs looked at: at 80 the ringing around eyelashes is taken for sharpness


class Alive(anywidget.AnyWidget):
    """The first child of a panel: says when its kernel is gone, and makes the panel's parts of class `wb-controls` inert."""

    _esm = script("alive")
    _css = style("alive")


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

    `picture` is a JPEG; `face` is x0, y0, x1, y1 as shares of the picture's sides, [] without one; `title` is said when the
    mouse rests on it; `removable` gives it a cross to take it out.
    """

    id: str
    picture: bytes
    caption: str
    title: str
    face: list[float]
    removable: bool


class Pressed(TypedDict):
    """What a strip's script sends: "choose" or "remove", and the id of the item."""

    event: str
    id: str


class Viewer(anywidget.AnyWidget):
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
    """

    _esm = script("viewer")
    _css = style("viewer")
    stages = traitlets.List([]).tag(sync=True)
    others = traitlets.List([]).tag(sync=True)
    live = traitlets.List([]).tag(sync=True)
    shown = traitlets.Unicode("").tag(sync=True)
    against = traitlets.Unicode("the stage before").tag(sync=True)  # no name: Python chooses one
    face = traitlets.List([]).tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)
    position = traitlets.Float(0.5).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)


class Strip(anywidget.AnyWidget):
    """A row of pictures to press.

    Attributes:
        label: its name, for screen readers.
        items: `StripItem` each.
        current: id of the item that is marked.
        zoom: whether only the faces are shown.
        tile: width of an item in px.
        newest_last: whether it is scrolled to its end.
    """

    _esm = script("strip")
    _css = style("strip")
    label = traitlets.Unicode("").tag(sync=True)
    items = traitlets.List([]).tag(sync=True)
    current = traitlets.Unicode("").tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)
    tile = traitlets.Int(96).tag(sync=True)
    newest_last = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, *, chosen: Callable[[str], None], removed: Callable[[str], None] = lambda _: None, **traits: object
    ) -> None:
        """`chosen(id)` and `removed(id)` are called when an item, or its cross, is pressed."""
        super().__init__(**traits)
        events = {"choose": chosen, "remove": removed}

        def pressed(_: Strip, message: Pressed, __: object) -> None:
            events[message["event"]](message["id"])

        self.on_msg(pressed)
