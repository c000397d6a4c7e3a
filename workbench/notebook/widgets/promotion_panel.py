"""Promote and Roll back as two buttons, with the exact change each would make."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import ipywidgets as widgets
from markupsafe import Markup

from workbench.errors import NothingToPromote, WorkbenchError
from workbench.presets import Preset, check_replaceable, history, load_preset, presets_folder, roll_back
from workbench.promotion import Verdict, choose, preview
from workbench.runs import label, plain
from workbench.settings import Settings

from ..front_end import headless
from .panels import ERROR_STYLE, Background, sentence
from .pictures import Alive
from .templates import render


class Promotion:
    """What a verdict leads to: displayed as buttons, or headless as what was done and what could be.

    Attributes:
        said: what happened last, in a sentence; "" where nothing did.
        widget: the buttons; None headless.
    """

    def __init__(self, verdict: Verdict, name: str = "production", *, as_good: bool = False) -> None:
        """`name`: the preset that is written. Raises `UsageError` for one that cannot be, or is a shipped preset's name."""
        self.verdict, self.name, self.as_good, self.said = verdict, check_replaceable(name), as_good, ""
        self.widget: widgets.VBox | None = None
        self._lock = threading.Lock()
        if not headless():
            self._build()

    def promote(self, note: str = "") -> Preset | None:
        """Promote the challenger if its verdict allows it; else say why not, and return None."""
        with self._lock:
            try:
                preset = self.verdict.promote(self.name, note, as_good=self.as_good)
            except NothingToPromote as error:
                self._say(sentence(error), error=True)
                return None
            self._say(
                f"{preset.name} is {self.verdict.challenger} now. {preset.about} A server has it when it is started anew."
            )
            return preset

    def roll_back(self) -> Preset | None:
        """Put the preset back that was replaced last; else say why not, and return None."""
        with self._lock:
            try:
                preset = roll_back(self.name)
            except WorkbenchError as error:
                self._say(sentence(error), error=True)
                return None
            self._say(f"{preset.name} is what it was before. {preset.about} Rolling back again undoes this.")
            return preset

    def promotion_lines(self) -> list[str]:
        """What promoting would write, one setting a line; or why nothing is promoted."""
        if problem := self.verdict.refusal(self.name, as_good=self.as_good):
            return [f"Nothing is promoted: {problem}"]
        try:
            choice = choose(self.verdict.run, settings=self.verdict.settings["challenger"], judged=True)
        except NothingToPromote as error:
            return [sentence(error)]
        changes = preview(self.name, Settings.written(choice.record["settings"]))
        if all(now is None for now, _ in changes.values()) and changes:
            own = self.verdict.settings["challenger"]
            return [f"'{self.name}' would be a new preset:", *(f"{label(name)} {plain(own[name])}" for name in own)]
        return _lines(changes) or [f"'{self.name}' has these settings already; its evidence would be replaced."]

    def roll_back_lines(self) -> list[str]:
        """What rolling back would change, one setting a line; or why that cannot be done."""
        kept = history(self.name)
        if not kept:
            return [f"Nothing to roll back to: '{self.name}' was not replaced yet."]
        if kept[0].preset is None:
            return [kept[0].problem]
        try:
            present = load_preset(presets_folder() / f"{self.name}.json").settings
        except WorkbenchError as error:  # a damaged or missing one is a reason to roll back
            return [sentence(error)]
        return _lines(present.diff(kept[0].preset.settings)) or ["Its settings would stay; its evidence would change."]

    # --- shown

    def _build(self) -> None:
        self._work = Background(self._failed)
        self._promote = widgets.Button(description="Promote", tooltip="Write the challenger as the preset")
        self._roll_back = widgets.Button(description="Roll back", tooltip="Put the replaced preset back")
        self._note = widgets.Text(description="Note", placeholder="why: kept with the evidence")
        self._status, self._changes = widgets.HTML(), widgets.HTML()
        self._promote.on_click(lambda _: self._begin(lambda: self.promote(self._note.value)))
        self._roll_back.on_click(lambda _: self._begin(self.roll_back))
        buttons = widgets.HBox([self._promote, self._roll_back, self._note])
        buttons.add_class("wb-controls")
        self.widget = widgets.VBox([Alive(), buttons, self._status, self._changes])
        self.widget.add_class("wb-promotion")
        self._work.submit(self._draw)

    def _begin(self, work: Callable[[], object]) -> None:
        """What a click does: it hands the work to the worker thread, and no button can be pressed until that is done."""
        self._promote.disabled = self._roll_back.disabled = True

        def do() -> None:
            work()
            self._draw()

        self._work.submit(do)

    def _draw(self) -> None:
        parts = [
            (f"Promote would change '{self.name}':", self.promotion_lines()),
            ("Roll back would change it:", self.roll_back_lines()),
        ]
        self._changes.value = render("promotion.html", parts=parts)
        self._promote.disabled = bool(self.verdict.refusal(self.name, as_good=self.as_good))
        self._roll_back.disabled = not history(self.name)

    def _failed(self, error: Exception) -> None:
        """Show what the worker raised, which ipywidgets would swallow."""
        self._say(sentence(error), error=True)
        self._promote.disabled, self._roll_back.disabled = (
            bool(self.verdict.refusal(self.name, as_good=self.as_good)),
            False,
        )

    def _say(self, text: str, *, error: bool = False) -> None:
        self.said = text
        if self.widget is not None:
            # role=status: a screen reader says it when it changes
            style = ERROR_STYLE if error else ""
            self._status.value = Markup('<div role="status" style="{}">{}</div>').format(style, text)

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        if self.widget is not None:
            display(self.widget)
            return
        changes = "\n".join(self.promotion_lines())
        back = "\n".join(self.roll_back_lines())
        done = f"**{self.said}**\n\n" if self.said else ""
        text = (
            f"Promoting now would change `{self.name}`:\n\n```\n{changes}\n```\nRolling back now:\n\n```\n{back}\n```"
        )
        display(Markdown(done + text))


def _lines(changes: Mapping[str, tuple[object, object]]) -> list[str]:
    return [f"{label(name)}: {plain(now)} → {plain(then)}" for name, (now, then) in changes.items()]
