"""Charts, and a duel in words, as outputs of a cell: in the page's own colours where there is one, else as still pictures."""

from __future__ import annotations

import ipywidgets as widgets
from IPython.display import HTML, Image, display
from markupsafe import Markup

from workbench.files import Chart, jpeg_bytes
from workbench.presets import list_presets
from workbench.promotion import Challenge, Verdict, is_challenge
from workbench.runs import label, list_runs, plain

from ..front_end import headless
from .scripts import style
from .templates import render

QUALITY = 90  # of a still chart


def show_chart(chart: Chart) -> None:
    """Display a chart: as a drawing in the theme's colours, or where nobody looks as a picture on white with its words."""
    if headless():
        display(Image(jpeg_bytes(chart.picture(), QUALITY), alt=chart.alt))
    else:
        display(_styled(Markup(chart.svg())))


def show_duel(duel: Challenge) -> None:
    """Display who meets whom: both sides with the settings in which they differ, the prompts in words, the seeds."""
    challenger = "the champion, changed" if duel.challenger.startswith("the champion with ") else duel.challenger
    rows = [(label(name), plain(one), plain(two)) for name, (one, two) in duel.differs.items()]
    spec = duel.spec
    seeds = ", ".join(map(str, spec.seeds)) if isinstance(spec.seeds, list) else str(spec.seeds)
    display(_styled(render(
        "duel.html", champion=duel.champion, challenger=challenger, rows=rows, prompts=spec.prompts or [], seeds=seeds,
        notes=duel.notes,
    )))  # fmt: skip


def show_verdict(verdict: Verdict) -> None:
    """Display a verdict: the word as a chip, then a row each for sharpness, guards and what else changes."""
    display(
        _styled(render("verdict.html", word=verdict.word, kind=verdict.decision.replace(" ", "_"), rows=verdict.rows))
    )


def _styled(inner: Markup) -> HTML:
    # the class of its own is what the styles are about; nothing of them reaches the rest of the page
    return HTML(Markup('<style>{}</style><div class="wb-shown">{}</div>').format(Markup(style("charts")), inner))


class Challengers:
    """A list of who could be the challenger, for the cells below. Without a browser it is what was given.

    Attributes:
        value: the challenger that is chosen now, as `wb.challenge` takes it.
    """

    def __init__(self, given: str) -> None:
        """`given`: chosen at first."""
        self.value = given
        if headless():
            return
        options = challenger_options()
        known = [value for _, value in options]
        first = [] if given in known else [(given, given)]
        self._list = widgets.Dropdown(
            options=[*first, *options], value=given, description="Challenger", layout={"width": "min(100%, 640px)"}
        )
        self._said = widgets.HTML()
        self._list.observe(self._chosen, "value")
        display(widgets.VBox([self._list, self._said]))

    def _chosen(self, change: dict[str, str]) -> None:
        self.value = change["new"]
        words = "Now choose <b>Run &gt; Run Selected Cell and All Below</b> on the next cell: the match is another one."
        self._said.value = f'<p role="status">{words}</p>'


def challenger_options() -> list[tuple[str, str]]:
    """(in words, as `wb.challenge` takes it) of everybody who could be a challenger: the newest sweep's winner, then the
    winners of the others, then presets."""
    runs = [run for run in list_runs() if not is_challenge(run)]
    winners = [(f"the winner of {run.about['name']}, {run.id}", run.id) for run in runs]
    presets = [(f"the preset {preset.name}", preset.name) for preset in list_presets()]
    return [("the winner of the latest sweep", "latest"), *winners, *presets]
