"""matplotlib figures as pictures.

Always `Figure` with its Agg canvas, never pyplot, whose global state breaks under notebook threads. matplotlib is loaded by
the first figure, not by importing this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, *, dpi: int = 110, constrained: bool = True) -> Figure:
    """An empty figure of `width` x `height` inches, each of `dpi` px.

    `constrained`: matplotlib arranges axes and labels so that none covers another; without it the caller places them.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained" if constrained else None, dpi=dpi)


def figure_picture(figure: Figure) -> Image.Image:
    """What is drawn on a figure, as an RGB picture in the figure's own size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
