"""What the score sees, as a picture: the aligned face, its blur from place to place, each region's figure, the flags."""

from __future__ import annotations

import numpy as np
from PIL import Image

from workbench.files import figure_picture, new_figure

from .blur_network import ELLIPSES, LEFT, SIDE, TOP, blur_map
from .measures import MEASURES, SHARPNESS
from .scoring import FaceScores, Picture, crop_of, score

SIGMA_TOP = 6.0  # blur in px at the dark end of the colours


def heatmap(image: Picture, result: FaceScores | None = None) -> Image.Image:
    """What the score sees of the largest face of a picture, as RGB; where no face was scored it says why.

    Args:
        result: what `score` said of this picture, where that is known already.

    Raises as `score`.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Ellipse

    result = result or score(image)
    figure = new_figure(12.6, 5.0, dpi=100)
    axes = figure.subplots(1, 3, width_ratios=(1, 1.16, 0.95))
    for ax in axes:
        ax.set_axis_off()
    if result.sharpness is None:
        axes[1].text(
            0.5, 0.5, f"{result.status}\n{result.reason or ''}", ha="center", va="center", fontsize=14, wrap=True
        )
        return figure_picture(figure)
    face = result.faces[0]
    crop = crop_of(image, face)
    axes[0].imshow(crop)
    axes[0].set_title(f"aligned face, eyes {face.eye_distance:.0f} px apart in the picture", fontsize=10)
    sigma, centres = blur_map(crop)
    half = (centres[0, 1, 0] - centres[0, 0, 0]) / 2
    extent = (centres[0, 0, 0] - half, centres[0, -1, 0] + half, centres[-1, 0, 1] + half, centres[0, 0, 1] - half)
    axes[1].imshow(np.asarray(Image.fromarray(crop).convert("L")), cmap="gray")
    norm = LogNorm(0.3, SIGMA_TOP, clip=True)
    # reversed cividis, safe for colour-blind eyes: bright is sharp
    shown = axes[1].imshow(sigma, extent=extent, cmap="cividis_r", norm=norm, alpha=0.6, interpolation="bicubic")
    for name, ellipses in ELLIPSES.items():
        for i, (x, y, rx, ry) in enumerate(ellipses):
            axes[1].add_patch(Ellipse((x, y), 2 * rx, 2 * ry, fill=False, color="white", linewidth=1.2))
            if i == 0:
                label = f"{name} {face.region_sigma[name]:.1f} px"
                axes[1].text(x, y - ry - 4, label, color="white", fontsize=8, ha="center", va="bottom",
                             bbox={"facecolor": "black", "alpha": 0.55, "pad": 1.5, "linewidth": 0})  # fmt: skip
    axes[1].set_xlim(LEFT - 40, LEFT + SIDE + 40)
    axes[1].set_ylim(TOP + SIDE + 40, TOP - 40)
    axes[1].set_title("equivalent Gaussian blur, px of the aligned face", fontsize=10)
    bar = figure.colorbar(shown, ax=axes[1], fraction=0.046)
    bar.minorticks_off()
    bar.set_ticks([0.3, 0.5, 1, 2, 4, 6], labels=["0.3", "0.5", "1", "2", "4", "6"])
    axes[2].text(0, 1, f"sharpness {face.sharpness:.1f} of 100", fontsize=15, va="top", weight="bold")
    said = f"blur {face.sigma:.2f} px of the 512 face"
    axes[2].text(0, 0.9, f"{said}\nflags: {', '.join(face.flags) or 'none'}", fontsize=10, va="top",
                 color="#a02020" if face.flags else "black")  # fmt: skip
    lines = []
    for name, value in face.guards.items():
        measure = MEASURES[name]
        text = "not measured" if value is None else f"{value:.3g}"
        limit = "" if measure.limit is None else f"   limit {measure.limit:g}"
        lines.append(f"{'! ' if measure.fires(value) else '  '}{name:<19}{text:>13}{limit}")
    axes[2].text(0, 0.74, "\n".join(lines), fontsize=8, va="top", family="monospace", linespacing=1.5)
    axes[2].text(0, 0.0, f"{SHARPNESS.name} {SHARPNESS.version}", fontsize=7, color="#666666")
    return figure_picture(figure)
