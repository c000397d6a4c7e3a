"""The winner of a sweep, and the duel that makes it a preset: a button, or without a browser the duel itself."""

from __future__ import annotations

import ipywidgets as widgets

from workbench.errors import BadPreset, NotPromoted, UsageError, WorkbenchError
from workbench.presets import Preset, check_replaceable, preset_licences
from workbench.promotion import SEEDS, Candidate, candidate, choose, preview, promote
from workbench.recipe import generate
from workbench.report import jpeg, strip
from workbench.runs import Run, label, plain, told
from workbench.settings import Settings

from ..front_end import headless
from .duelling import Duelling, duel_lines, said_in
from .finishing import Finishing, finished_picture
from .panels import sentence
from .pictures import Alive
from .templates import render


class WinnerPanel:
    """The best settings of a finished run. Displayed in a browser, it shows whom they have to beat, and has a button that
    lets them and one that makes the finished picture; without a browser both are done at once.

    Attributes:
        settings: the winner's.
        preset: what was written, in a notebook without a browser; None where nothing was.
        widget: None without a browser.
    """

    def __init__(self, run: Run, name: str = "production", *, seeds: int = SEEDS, upscaler: str = "none") -> None:
        """`name`: the preset to become; "": none. `seeds`: of the duel, for each prompt. `upscaler`: of the finished picture.

        Raises `NothingToPromote`, `MixedScores`, and `UsageError` for a name that a preset cannot have.
        """
        self.run, self.name, self.seeds = run, name and check_replaceable(name), seeds
        self._choice = choose(run)
        self.settings = Settings.written(self._choice.record["settings"])
        self._finished = self.settings.replace(upscaler=upscaler)
        self.preset: Preset | None = None
        self.widget: widgets.VBox | None = None
        if not headless():
            self._build()

    def words(self) -> str:
        """Which settings lead, and by what."""
        row = self._choice.row
        return f"{told(self._choice.combination) or 'the only settings'}: mean sharpness {row.mean:.1f} over {row.n} pictures"

    def promote(self) -> str:
        """Run the duel in the foreground and write the preset if it is won; what came out, in words."""
        try:
            self.preset = promote(self.run, name=self.name, seeds=self.seeds, quiet=True)
        except (NotPromoted, UsageError, BadPreset) as error:  # said in the report, which goes on
            return sentence(error)
        licences = "".join(f"\n- {licence}" for licence in preset_licences(self.preset))
        return f"**Promoted to `{self.name}`.** {self.preset.evidence['verdict']['words']}\n{licences}"

    def _build(self) -> None:
        head, self._status, self._costs = widgets.HTML(), widgets.HTML(), widgets.HTML()
        head.value = render("promotion.html", parts=[("The winner:", [self.words()])])
        self._duelling = Duelling(said_in(self._status), self._draw)
        self._button = widgets.Button(
            description="Promote", icon="trophy", tooltip="Let it meet the champion on new seeds"
        )
        self._button.on_click(lambda _: self._duelling.begin(self._candidate))
        parts = [self._button, self._status, self._costs] if self.name else []
        self.widget = widgets.VBox([Alive(), head, Finishing(self.run, self._finished).widget, *parts])
        self.widget.add_class("wb-controls")
        if self.name:
            self._duelling.work.submit(self._draw)

    def _candidate(self) -> Candidate:
        return candidate(self.run, name=self.name, seeds=self.seeds)

    def _draw(self) -> None:
        try:
            duel = duel_lines(self._candidate())
        except WorkbenchError as error:  # it is production already, say
            self._button.disabled = True
            self._costs.value = render("promotion.html", parts=[("Not to be promoted:", [sentence(error)])])
            return
        changes = preview(self.name, self.settings)
        new = all(now is None for now, _ in changes.values())
        lines = [f"{label(name)}: {plain(now)} → {plain(then)}" for name, (now, then) in changes.items() if not new]
        parts = [("Promote:", duel), (f"If it is better, '{self.name}' becomes:", lines or ["a new preset"])]
        self._costs.value = render("promotion.html", parts=parts)

    def _ipython_display_(self) -> None:
        from IPython.display import Image, Markdown, display

        if self.widget is not None:
            display(self.widget)
            return
        display(Markdown(f"The winner: **{self.words()}**."))
        if self.name:
            display(Markdown(self.promote()))
        result = generate(self._finished)
        display(Image(jpeg(strip(dict(result.stages))), alt="The winner's picture after each stage"))
        display(Image(jpeg(result.image, quality=88), alt="The winner's finished picture"))
        display(Markdown(f"`{finished_picture(self.run, result)}`, {result.image.width} × {result.image.height} px"))
