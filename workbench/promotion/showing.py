"""A duel as pictures: every pair on one line, and the faces side by side."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from workbench.files import Chart, new_figure
from workbench.runs import DONE, Record

if TYPE_CHECKING:
    from PIL import Image

    from .judging import Verdict


def chart(verdict: Verdict) -> Chart:
    """The differences, pair by pair, with their mean and its interval."""
    figure = new_figure(7.2, 1.9)
    ax = figure.subplots()
    ax.axvline(0, color="#595959", linewidth=1)
    # Okabe-Ito blue and vermilion, told apart by their shapes as well
    for shown, colour, marker in ((lambda d: d > 0, "#0072b2", "^"), (lambda d: d <= 0, "#d55e00", "v")):
        found = [d for d in verdict.differences if shown(d)]
        ax.plot(found, [0.0] * len(found), marker, color=colour, markersize=9, alpha=0.75, linestyle="none")
    if verdict.found is not None and math.isfinite(verdict.found.low):
        ax.plot((verdict.found.low, verdict.found.high), (-1, -1), color="black", linewidth=2.5, solid_capstyle="butt")
        ax.plot([verdict.found.mean], [-1], "o", color="black", markersize=8)
    ax.set_yticks([0, -1], labels=["each pair", "mean"])
    ax.set_ylim(-1.7, 0.7)
    ax.set_xlabel("sharpness, challenger minus champion, points (right of 0: the challenger is sharper)")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    pairs = f"{len(verdict.differences)} pairs: {verdict.wins} won, {verdict.losses} lost by the challenger"
    return Chart(figure, f"Sharpness, challenger minus champion, pair by pair. {pairs}. {verdict.rows['Sharpness']}")


def sheet(verdict: Verdict, tile: int, most: int) -> Image.Image:
    """The first `most` pairs, one a row; `tile` is in px."""
    from PIL import Image as Pictures

    from workbench.analysis import tile as picture
    from workbench.files import contact_sheet

    spec = verdict.run.about["spec"]
    blocks = [(i, seed) for i in range(1, len(spec["prompts"]) + 1) for seed in spec["seeds"]]
    records = {record["cell"]: record for record in verdict.run.records()}
    rows: list[list[Image.Image | str]] = []
    captions: list[list[str]] = []
    for pair in verdict.cells[:most]:
        rows.append([])
        captions.append([])
        for record in map(records.get, pair):
            if record is None or record["status"] not in DONE:
                rows[-1].append("not made yet" if record is None else f"failed: {record['reason']}")
                captions[-1].append("")
            else:
                rows[-1].append(Pictures.open(io.BytesIO(picture(verdict.run, record, tile, zoom=True))))
                captions[-1].append(_caption(record))
    labels = [f"prompt {prompt}\nseed {seed}" for prompt, seed in blocks[:most]]
    return contact_sheet(rows, labels, ["champion", "challenger"], captions=captions, tile=tile)


def _caption(record: Record) -> str:
    value, flags = record["scores"].get("sharpness"), record["scores"].get("flags", [])
    return ", ".join([record["status"].replace("_", " ") if value is None else f"{value:.1f}", *flags])
