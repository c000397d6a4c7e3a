"""A still picture in the notebook's file, for whoever opens it tomorrow: widgets are gone with their kernel."""

from __future__ import annotations

import base64
import uuid

from IPython.display import HTML, display
from markupsafe import Markup

# JupyterLab says "Error displaying widget: model not found" in place of a panel without a kernel
SHEET = """
.jp-OutputArea-child:has(.wb-still):has(+ .jp-OutputArea-child .wb-tuner),
.jp-OutputArea-child:has(.wb-still) + .jp-OutputArea-child:not(:has(.wb-tuner)) { display: none; }
.wb-still { margin: 0; } .wb-still img { max-width: 100%; }
"""


class Still:
    """An output before a panel. It hides while the panel is alive, and is what is left when it is not."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._there = False

    def show(self, picture: bytes | None, words: str) -> None:
        """Put an output here. `picture`: a JPEG; None before the first."""
        self._display(picture, words, update=False)
        self._there = True

    def renew(self, picture: bytes | None, words: str) -> None:
        """Another picture into what is there, wherever it was shown."""
        if self._there:
            self._display(picture, words, update=True)

    def _display(self, picture: bytes | None, words: str, *, update: bool) -> None:
        image = Markup('<img src="data:image/jpeg;base64,{}" alt="{}">') if picture else Markup("")
        image = image.format(base64.b64encode(picture or b"").decode(), words)
        body = Markup("{}<figcaption><b>Run this cell</b> to tune on. {}</figcaption>").format(image, words)
        html = Markup('<figure class="wb-still"><style>{}</style>{}</figure>').format(Markup(SHEET), body)
        display(HTML(html), display_id=self._id, update=update)
