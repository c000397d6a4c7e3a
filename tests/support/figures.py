"""What can be read in a figure of matplotlib, and what cannot."""

from __future__ import annotations

import itertools
from typing import Any


def texts(figure: Any) -> list[Any]:
    """Every text that is seen."""
    import matplotlib.text

    return [t for t in figure.findobj(matplotlib.text.Text) if t.get_text().strip() and t.get_visible()]


def covered(figure: Any) -> list[tuple[str, str]]:
    """Texts that lie on one another or outside the figure."""
    undrawn = {
        id(label)
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not ax.axison or not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    shown = [
        t for t in texts(figure) if id(t) not in undrawn and t.get_rotation() in (0, 90)
    ]  # a turned one's box is empty
    boxes = [(t.get_text(), t.get_window_extent(figure.canvas.get_renderer())) for t in shown]
    found = [
        (a, b)
        for (a, one), (b, two) in itertools.combinations(boxes, 2)
        if min(one.x1, two.x1) - max(one.x0, two.x0) > 1.5 and min(one.y1, two.y1) - max(one.y0, two.y0) > 1.5
    ]
    high, wide = figure.bbox.y1 + 1, figure.bbox.x1 + 1
    cut = [(text, "is cut") for text, b in boxes if min(b.x0, b.y0) < -1 or b.x1 > wide or b.y1 > high]
    return found + cut
