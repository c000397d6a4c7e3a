"""The scripts and styles of the widgets, from the folder `static`.

anywidget takes the text of one module and of one sheet per widget. There is no build step: what the widgets have in common
is in `shared.js` and `shared.css`, and is put in front of each widget's own, and so is what only some of them have in common.
"""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"


def script(name: str, *parts: str) -> str:
    """The JavaScript module of the widget `name`, like "wall"; `parts`: what it shares with some others, like "actions"."""
    return _joined("shared", *parts, name, suffix=".js")


def style(name: str, *parts: str) -> str:
    """The CSS of the widget `name`, like "wall"; `parts` as of `script`."""
    return _joined("shared", *parts, name, suffix=".css")


def _joined(*names: str, suffix: str) -> str:
    return "\n".join((STATIC / f"{name}{suffix}").read_text(encoding="utf-8") for name in names)
