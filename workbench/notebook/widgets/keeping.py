"""What is kept of a tuning session beside its pictures: axes for a sweep, a preset, a promotion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets as widgets
from markupsafe import Markup

from workbench.errors import UsageError
from workbench.presets import Preset, check_replaceable, licences, presets_folder
from workbench.runs import label, plain
from workbench.settings import Settings, knobs

from ..tuning_session import TuningSession
from .duelling import Duelling, said_in, session_candidate
from .panels import sentence, shown_in
from .telling import alert, damaged_html


@dataclass(frozen=True)
class StartAndNow:
    """The preset that the tuner began with, its settings, and what the controls are set to."""

    preset: str
    base: Settings
    settings: Settings


class KeepBox:
    """Buttons below the tuner's picture: *Add to sweep as axis*, *Save as preset*, *Promote*.

    Attributes:
        box: to be displayed.
        axis: the setting to sweep.
        said: what became of the last press.
    """

    def __init__(self, session: TuningSession, now: Callable[[], StartAndNow], saved: Callable[[str], None]) -> None:
        """`now()` raises `SettingsError` where the controls' values do not go together; `saved(name)` of a preset."""
        self._session, self._now, self._on_saved = session, now, saved
        self.axis = widgets.Dropdown(
            options=[(k.label, n) for n, k in knobs().items() if n != "seed"], value="strength", description="Axis",
            tooltip="The setting to sweep", layout={"width": "260px"},
        )  # fmt: skip
        self.add_axis = widgets.Button(
            description="Add to sweep as axis", icon="plus", tooltip="With the values tried here",
            layout={"width": "auto"},
        )  # fmt: skip
        self.clear_axes = widgets.Button(description="Clear", tooltip="Forget the axes", layout={"width": "auto"})
        self.axes = widgets.HTML("")
        self.name = widgets.Text(description="Name", placeholder="my-preset", layout={"width": "240px"},
                                 tooltip="Lower-case letters, digits, '.', '_' and '-'")  # fmt: skip
        self.save = widgets.Button(description="Save as preset", icon="save", layout={"width": "auto"})
        self.promote = widgets.Button(
            description="Promote", icon="trophy", tooltip="Let it meet production on new seeds"
        )
        self.said = widgets.HTML(damaged_html())
        self.duelling = Duelling(said_in(self.said))
        does = {self.add_axis: self._add_axis, self.clear_axes: self._clear_axes, self.save: self._save,
                self.promote: self._promote}  # fmt: skip
        for button, work in does.items():
            button.on_click(shown_in(self.said, lambda _, work=work: work(), self._failed))
        self.box = widgets.VBox(
            [
                widgets.HBox([self.axis, self.add_axis, self.clear_axes], layout={"flex_flow": "wrap"}), self.axes,
                widgets.HBox([self.name, self.save, self.promote], layout={"flex_flow": "wrap"}), self.said,
            ]
        )  # fmt: skip
        self.box.add_class("wb-controls")
        self.show_axes()

    def _failed(self, error: Exception) -> None:
        self.said.value = alert(sentence(error))

    def show_axes(self) -> None:
        """Say which axes were collected, and where the spec is that they are written to."""
        if not self._session.axes:
            self.axes.value = "No axes collected yet."
            return
        now = self._now()
        spec = self._session.write_spec(now.preset, now.base, now.settings)
        axes = " × ".join(
            f"{label(name)} {', '.join(map(plain, values))}" for name, values in self._session.axes.items()
        )
        self.axes.value = Markup("{}: in 02_sweep, <code>spec = {}</code>.").format(axes, repr(str(spec)))

    def _add_axis(self) -> None:
        self._session.add_axis(str(self.axis.value), self._now().settings)
        self.show_axes()

    def _clear_axes(self) -> None:
        self._session.clear_axes()
        self.show_axes()

    def _save(self) -> None:
        name = check_replaceable(self.name.value.strip())
        if name == "production":
            raise UsageError("production is only written by a promotion: press Promote, or take another name.")
        about = "Saved from the tuner; not measured against any other."
        settings = self._now().settings
        preset = Preset(name, settings, about, licences=licences(settings))
        saved = preset.save(presets_folder() / f"{name}.json")
        self._on_saved(name)
        licence = "; ".join(saved.licences)
        self.said.value = Markup("<p>Saved as <code>{}</code>. {}.</p>").format(saved.path, licence)

    def _promote(self) -> None:
        now = self._now()
        self.duelling.ask(lambda: session_candidate(self._session, now.settings, now.preset))
