"""What came out of a finished run: its charts and its ranking, whose dots and bars open their cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import traitlets

from workbench.analysis import shown_cells
from workbench.files import Chart
from workbench.report import plots, ranked_html
from workbench.runs import Run, swept, told

from .panels import Message, Panel
from .scripts import script, style

CHARTS = {
    "The best settings": plots.ranking,
    "Mean sharpness of every setting": plots.heat_maps,
    "What each setting does": plots.main_effects,
    "Sharpness against fidelity": plots.pareto_front,
    "Where the time went": plots.stage_times,
}


class ChartView(TypedDict):
    """A chart with its title; `svg`: an element in the colours of the page."""

    title: str
    svg: str


class OutcomeView(TypedDict):
    """`charts`: as many as are drawn so far. `ranking`: a table as HTML, "" before it is made. `busy`: more is to come."""

    charts: list[ChartView]
    ranking: str
    busy: bool


class OpenMessage(Message):
    """Something was pressed that stands for this cell."""

    cell: int


class OutcomePanel(Panel):
    """Charts and ranking of a run, drawn one after the other on its worker thread.

    Attributes:
        view: an `OutcomeView`.
    """

    _esm = script("outcome")
    _css = style("outcome")

    view = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Run, opens: Callable[[int], None]) -> None:
        """`opens(cell)`: shows a cell at large."""
        self.run, self._opens = run, opens
        super().__init__(view=OutcomeView(charts=[], ranking="", busy=True))
        self.work.submit(self._fill)

    def _fill(self) -> None:
        names = cell_names(self.run)
        charts: list[ChartView] = []
        for title, draw in CHARTS.items():
            charts.append(ChartView(title=title, svg=draw(self.run).svg(names)))
            self.view = OutcomeView(charts=[*charts], ranking="", busy=True)
        self.view = OutcomeView(charts=charts, ranking=ranked_html(self.run), busy=False)

    def _do_open(self, message: OpenMessage) -> None:
        self._opens(message["cell"])
        self.send({"opened": message["cell"]})


def static_charts(run: Run) -> list[tuple[str, Chart]]:
    """(title, chart) of every chart."""
    return [(title, draw(run)) for title, draw in CHARTS.items()]


def cell_names(run: Run) -> dict[int, str]:
    """{the cell that stands for a setting: what the button that opens it is called}."""
    names = swept(run.axes)
    return {
        cell: f"Open cell {cell}: {told(dict(zip(names, key, strict=False))) or 'the only setting'}"
        for key, cell in shown_cells(run).items()
    }
