"""matplotlib figures as pictures and as drawings that take a page's own colours.

Always `Figure` with its canvas, never pyplot, whose global state breaks under notebook threads. matplotlib is loaded by
the first figure, not by importing this.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from PIL import Image

from .hashes import hash_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
PALETTE = {
    "#000000": "currentColor", "#595959": "var(--wb-grey, #595959)", "#0072b2": "var(--wb-blue, #0072b2)",
    "#d55e00": "var(--wb-orange, #d55e00)", "#dddddd": "var(--wb-grid, #dddddd)",
}  # fmt: skip
"""{colour of a figure: what stands for it in a drawing, so that one drawing is legible in a light and in a dark theme}"""
ON_COLOUR = "#010101"  # ink on a coloured ground, which is the same in both themes
REACH = 9  # px around a dot that can be pressed


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


@dataclass(frozen=True)
class Chart:
    """A figure, and in words what it says to who cannot see it.

    Its colours are those of `PALETTE`. An artist that stands for cells of a run bears them as its gid, see `cells_gid`.
    """

    figure: Figure
    alt: str

    def picture(self) -> Image.Image:
        """On a white ground, RGB."""
        return figure_picture(self.figure)

    def svg(self, names: Mapping[int, str] | None = None) -> str:
        """As an SVG element without a ground, in the colours of the page around it: text as the page's, the others by the
        variables that `PALETTE` names.

        `names`: {cell: what a button for it is called}; whatever stands for one of these cells can be pressed then: it is a
        button, not among the tab stops, and bears the number as `data-cell`. Without them the drawing is one picture.
        """
        import matplotlib as mpl

        buffer = io.BytesIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "workbench"}):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        for prefix, space in (("", SVG), ("xlink", XLINK)):
            ElementTree.register_namespace(prefix, space)
        root = ElementTree.fromstring(buffer.getvalue())
        root.attrib |= {
            "role": "group" if names else "img",
            "aria-label": self.alt,
            "class": "wb-chart",
            "fill": "currentColor",
        }
        for metadata in root.findall(f"{{{SVG}}}metadata"):
            root.remove(metadata)
        _press(root, names or {})
        _own_ids(root, hash_json([self.alt, len(buffer.getvalue())])[:8])
        text = ElementTree.tostring(root, encoding="unicode")
        return re.sub("|".join(PALETTE), lambda found: PALETTE[found[0]], text)


def cells_gid(cells: list[int]) -> str:
    """The gid of an artist that stands for cells: of a scatter, one for each of its points."""
    return "-".join(["cells", *map(str, cells)])


def _press(root: ElementTree.Element, names: Mapping[int, str]) -> None:
    """Make buttons of what stands for cells: a ring around each point, or the whole of a shape without points."""
    for group in [group for group in root.iter(f"{{{SVG}}}g") if group.get("id", "").startswith("cells-")]:
        cells = [int(cell) for cell in group.attrib.pop("id").split("-")[1:]]
        points = list(group.iter(f"{{{SVG}}}use"))
        targets = [group]
        if points:
            places = [{"cx": use.get("x", "0"), "cy": use.get("y", "0")} for use in points]
            targets = [
                ElementTree.SubElement(group, f"{{{SVG}}}circle", {**place, "r": str(REACH), "style": "opacity: 0"})
                for place in places
                if names
            ]
        for target, cell in zip(targets, cells, strict=False):
            if cell in names:
                target.attrib |= {"role": "button", "tabindex": "-1", "data-cell": str(cell), "aria-label": names[cell]}
                ElementTree.SubElement(target, f"{{{SVG}}}title").text = names[cell]


def _own_ids(root: ElementTree.Element, own: str) -> None:
    """Keep only ids that are referred to, each with `own` before it, for two drawings may stand in one page."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = {*re.findall(r"url\(#([^)]+)\)", text), *re.findall(r'href="#([^"]+)"', text)}
    for element in root.iter():
        if (name := element.get("id")) is not None:
            element.attrib.pop("id")
            if name in used:
                element.set("id", f"{own}-{name}")
        for attribute, value in element.attrib.items():
            if attribute == f"{{{XLINK}}}href" and value.startswith("#"):
                element.set(attribute, f"#{own}-{value[1:]}")
            elif "url(#" in value:
                element.set(attribute, value.replace("url(#", f"url(#{own}-"))
