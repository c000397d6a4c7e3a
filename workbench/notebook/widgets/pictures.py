"""Our own widgets for pictures: the viewer with its before/after slider, and strips of variants. JPEGs travel as bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

STATIC = Path(__file__).parent / "static"
GONE = "The kernel was restarted: run this cell again. Everything made so far is on disk."


class Alive(anywidget.AnyWidget):
    """The first child of a panel: says when its kernel is gone, and makes the siblings of class `wb-controls` inert."""

    _esm = STATIC / "alive.js"
    _css = STATIC / "alive.css"
    words = traitlets.Unicode(GONE).tag(sync=True)


class Viewer(anywidget.AnyWidget):
    """One picture at each of its stages, compared with another stage or picture by a slider.

    `stages` and `others` are lists of {"id", "name", "label", "about": what made it, "what": preview or full, "pending":
    whether a newer one is being made, "width", "height" in px, "picture": JPEG bytes}; an `id` stands for one picture for
    ever. `shown` and `against` are names; `face` is x0, y0, x1, y1 as shares of the sides, [] without one.
    """

    _esm = STATIC / "viewer.js"
    _css = STATIC / "viewer.css"
    stages = traitlets.List([]).tag(sync=True)
    others = traitlets.List([]).tag(sync=True)
    shown = traitlets.Unicode("").tag(sync=True)
    against = traitlets.Unicode("the stage before").tag(sync=True)  # no name: Python chooses one
    face = traitlets.List([]).tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)
    position = traitlets.Float(0.5).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)


class Strip(anywidget.AnyWidget):
    """A row of pictures to press: `items` are {"id", "picture": JPEG bytes, "caption", "title", "face", "removable"}."""

    _esm = STATIC / "strip.js"
    _css = STATIC / "strip.css"
    label = traitlets.Unicode("").tag(sync=True)
    items = traitlets.List([]).tag(sync=True)
    current = traitlets.Unicode("").tag(sync=True)
    zoom = traitlets.Bool(False).tag(sync=True)
    tile = traitlets.Int(96).tag(sync=True)
    newest_last = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, *, chosen: Callable[[str], None], removed: Callable[[str], None] = lambda _: None, **traits: Any
    ) -> None:
        super().__init__(**traits)
        events = {"choose": chosen, "remove": removed}
        self.on_msg(lambda _, message, __: events[message["event"]](message["id"]))
