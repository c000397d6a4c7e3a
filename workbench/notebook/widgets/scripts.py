"""The scripts and styles of the widgets, from the folder `static`.

anywidget takes the text of one module and of one sheet per widget. There is no build step: what the widgets have in common
is in `shared.js` and `shared.css`, and is put in front of each widget's own.
"""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"


def script(name: str) -> str:
    """The JavaScript module of the widget `name`, like "wall"."""
    return _with_shared(f"{name}.js")


def style(name: str) -> str:
    """The CSS of the widget `name`, like "wall"."""
    return _with_shared(f"{name}.css")


def _with_shared(name: str) -> str:
    own = STATIC / name
    shared = STATIC / f"shared{own.suffix}"
    return f"{shared.read_text(encoding='utf-8')}\n{own.read_text(encoding='utf-8')}"
