"""What the tests of plots and pages share."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.report import plots


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures as they were drawn; the `picture` of each is what was made of it."""
    drawn: list[Any] = []
    make = plots.Chart

    def keep(figure: Any, alt: str) -> Any:
        drawn.append(figure)
        chart = make(figure, alt)
        figure.picture, figure.alt = chart.picture(), alt
        return chart

    monkeypatch.setattr(plots, "Chart", keep)
    return drawn
