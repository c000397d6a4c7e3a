"""Asking a panel as its script does, and looking at what it answers."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from workbench.notebook.widgets.panels import Panel
from workbench.runs.run import Run


def ask(panel: Panel, **message: Any) -> None:
    panel._received(panel, message, [])
    panel.work.settle()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def picture(run: Run, cell: int, size: tuple[int, int] = (400, 300)) -> None:
    """Blue, with a red square of 100 px at its right."""
    image = Image.new("RGB", size, "#0000ff")
    image.paste("#ff0000", (size[0] - 120, 100, size[0] - 20, 200))
    (run.path / "pictures").mkdir(exist_ok=True)
    image.save(run.path / "pictures" / f"{cell:04d}.png")
