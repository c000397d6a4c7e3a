"""The tuner's widgets and where they stand: controls, the picture beside them, the history, what is kept."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets

from .controls import LABEL, Controls
from .dropping import DropZone
from .keeping import KeepBox
from .pictures import Alive, Strip, Viewer
from .scripts import style


class TunerPanel:
    """The widgets of a tuner. What they do when they are used is the `Tuner`'s business.

    Attributes:
        panel: all of it, to be displayed.
        controls: of the settings; `presets` and `reload` set them all.
        state, message: what the worker is at, and errors.
        cancel, pin, viewer, score: of the picture.
        history, pins: pictures to press.
    """

    def __init__(
        self, controls: Controls, presets: Sequence[str], preset: str, viewer: Viewer, dropping: DropZone,
        strips: tuple[Strip, Strip], keep: KeepBox,
    ) -> None:  # fmt: skip
        """`presets`: names on offer, `preset` among them; `strips`: the history and the pinned pictures."""
        self.controls = controls
        self.presets = widgets.Dropdown(
            options=presets, value=preset, description="Preset", tooltip="Load the settings of a preset",
            style={"description_width": LABEL}, layout={"width": "auto", "flex": "1 1 auto", "min_width": "0"},
        )  # fmt: skip
        self.reload = widgets.Button(icon="undo", tooltip="Set all controls to the preset's", layout={"width": "38px"})
        self.state = widgets.HTML("ready")
        self.message = widgets.HTML("")
        self.cancel = widgets.Button(
            description="Cancel", icon="stop", disabled=True, tooltip="Stop within one denoising step"
        )
        self.pin = widgets.Button(description="Pin", icon="thumb-tack", disabled=True, tooltip="Keep beside the others")
        self.viewer = viewer
        self.score = widgets.HTML("")
        self.history, self.pins = strips
        widgets.jslink((self.viewer, "zoom"), (self.pins, "zoom"))
        sheet = widgets.HTML(f"<style>{style('tuner')}</style>", layout={"display": "none"})
        self.panel = widgets.VBox([Alive(), sheet, self._columns(), dropping, self.history, self.pins, keep.box])
        self.panel.add_class("wb-tuner")

    def _columns(self) -> widgets.Widget:
        """The controls, and the picture with what is said of it."""
        first = widgets.HBox([self.presets, self.reload])
        left = widgets.VBox([first, self.controls.above, self.controls.groups], layout={"width": "400px"})
        left.layout.flex = "0 1 400px"
        left.add_class("wb-controls")
        bar = widgets.HBox([self.cancel, self.pin])
        bar.add_class("wb-controls")
        # of the same height with no line and with two, so that neither the picture nor a slider moves while it is used
        self.state.layout.height = "46px"
        right = widgets.VBox(
            [bar, self.state, self.message, self.viewer, self.score], layout={"flex": "1 1 420px", "min_width": "0"}
        )
        columns = widgets.HBox([left, right], layout={"align_items": "flex-start", "flex_flow": "wrap"})
        columns.add_class("wb-columns")
        return columns
