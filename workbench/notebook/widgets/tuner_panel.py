"""The tuner's widgets and where they stand: controls, the picture beside them, the history, what is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets as widgets

from .controls import LABEL, Controls
from .dropping import DropZone
from .filmstrip import Filmstrip
from .keeping import KeepBox
from .pictures import Alive, Frame, Viewer
from .scripts import style


class TunerPanel:
    """The widgets of a tuner. What they do when they are used is the `Tuner`'s business.

    Attributes:
        panel: all of it, to be displayed.
        controls: of the settings; `presets` and `reload` set them all.
        state, message: what the worker is at, and errors.
        render, cancel, pin, viewer, score: of the picture.
        history, pins: pictures to press.
    """

    def __init__(
        self,
        controls: Controls,
        presets: tuple[Sequence[str], str],
        pictures: tuple[Viewer, DropZone, Filmstrip],
        keep: KeepBox,
        on_render: Callable[[], None],
    ) -> None:
        """`presets`: names on offer, and the one chosen; `pictures`: what shows pictures and takes them; `on_render` is
        called on Ctrl+Enter."""
        self.controls = controls
        self.presets = widgets.Dropdown(
            options=presets[0], value=presets[1], description="Preset", tooltip="Load the settings of a preset",
            style={"description_width": LABEL}, layout={"width": "auto", "flex": "1 1 auto", "min_width": "0"},
        )  # fmt: skip
        self.reload = widgets.Button(icon="undo", tooltip="Set all controls to the preset's", layout={"width": "38px"})
        self.state, self.message, self.score = widgets.HTML(""), widgets.HTML(""), widgets.HTML("")
        self.render = widgets.Button(
            description="Render", icon="play", button_style="primary", tooltip="Make the full picture now (Ctrl+Enter)"
        )
        self.cancel = widgets.Button(
            description="Cancel", icon="stop", disabled=True, tooltip="Stop within one denoising step"
        )
        self.pin = widgets.Button(description="Pin", icon="thumb-tack", disabled=True, tooltip="Keep beside the others")
        self.viewer, dropping, strips = pictures
        self.history, self.pins = strips.history, strips.pins
        widgets.jslink((self.viewer, "zoom"), (self.pins, "zoom"))
        sheet = widgets.HTML(f"<style>{style('tuner')}</style>", layout={"display": "none"})
        self.panel = widgets.VBox(
            [Alive(), sheet, Frame(on_render), self._columns(), dropping, self.history, self.pins, keep.box]
        )
        self.panel.add_class("wb-tuner")

    def _columns(self) -> widgets.Widget:
        """The controls, and the picture with what is said of it; the sheet puts them side by side."""
        first = widgets.HBox([self.presets, self.reload])
        left = widgets.VBox([first, self.controls.above, self.controls.groups])
        bar = widgets.HBox([self.render, self.cancel, self.pin])
        right = widgets.VBox([bar, self.state, self.message, self.viewer, self.score])
        columns = widgets.HBox([left, right])
        for part, name in ((left, "controls"), (bar, "controls"), (self.state, "state"), (right, "picture"),
                           (columns, "columns")):  # fmt: skip
            part.add_class(f"wb-{name}")
        for button in bar.children:
            button.layout.width = "auto"
        return columns
