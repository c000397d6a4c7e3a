"""What the tests of plots and pages share."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.report import plots


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures as they were drawn; the `picture` of each is what was made of it."""
    drawn: list[Any] = []
    draw = plots.figure_picture

    def keep(figure: Any) -> Any:
        drawn.append(figure)
        figure.picture = draw(figure)
        return figure.picture

    monkeypatch.setattr(plots, "figure_picture", keep)
    return drawn
