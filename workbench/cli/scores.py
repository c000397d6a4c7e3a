"""The command `score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import UsageError

from .terminal import Json, say

if TYPE_CHECKING:
    from workbench.scores import FaceScores


def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to score.")],
    heatmap: Annotated[
        Path | None, typer.Option(help="PNG to write: blur over the face, regions, flags; OUT-NAME.png for several.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The picture before it was refined, so that a torn face is told; for one IMAGE.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where faces are found: cpu, cuda, cuda:1.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Score the sharpness of the faces in pictures, each face measured at the same size, with guards against being fooled.

    Example: workbench score face.png other.jpg --json
    Example: workbench score face.png --heatmap seen.png
    Example: workbench score face.png --reference first.png
    """
    from workbench.errors import UnreadablePicture
    from workbench.files import check_writable
    from workbench.scores import score as score_one, score_many

    if reference and len(images) > 1:
        raise UsageError("--reference is the first picture of one picture; score them one by one.")
    if reference and device != "cpu":
        raise UsageError("--reference is measured on the CPU; leave --device out.")

    if heatmap and heatmap.suffix.lower() != ".png":
        raise UsageError(f"{heatmap} is not a .png; give --heatmap the name of one.")
    if heatmap and len({path.stem for path in images}) < len(images):
        raise UsageError("two of the pictures have the same name, and so would their heat maps; score them one by one.")
    if heatmap:
        for path in images:
            check_writable(_heatmap_path(path, heatmap, len(images)))
    rows: list[dict[str, object]] = []
    lines, bad = [], []
    found = [score_one(images[0], reference)] if reference else score_many(images, device=device)
    for path, result in zip(images, found, strict=True):
        if isinstance(result, UnreadablePicture):  # the others are still worth scoring
            bad.append(result)
            row: dict[str, object] = {"status": "unreadable", "sharpness": None, "faces": [], "reason": str(result)}
            lines.append(f"{path}: unreadable, not measured")
        else:
            row = result.to_json()
            lines.append(_words(path, result))
            if heatmap:
                row["heatmap"] = str(_write_heatmap(path, result, heatmap, len(images)))
                lines.append(f"  {row['heatmap']}")
        rows.append({"image": str(path), **row})
    say(rows, as_json, lambda: "\n".join(lines))
    if bad:
        raise bad[0]


def _heatmap_path(image: Path, where: Path, images: int) -> Path:
    return where if images == 1 else where.with_name(f"{where.stem}-{image.stem}.png")


def _write_heatmap(image: Path, result: FaceScores, where: Path, images: int) -> Path:
    from workbench.files import png_bytes, write_atomic
    from workbench.scores import heatmap

    path = _heatmap_path(image, where, images)
    write_atomic(path, png_bytes(heatmap(image, result)))
    return path


def _words(path: Path, result: FaceScores) -> str:
    from workbench.scores import MEASURES

    if result.sharpness is None:
        return (
            f"{path}: {result.status.replace('_', ' ')}, not measured{f' ({result.reason})' if result.reason else ''}"
        )
    face = result.faces[0]
    regions = ", ".join(f"{name} {sigma:.1f}" for name, sigma in face.region_sigma.items())
    lines = [
        f"{path}: sharpness {result.sharpness:.1f} of 100",
        f"  blur {face.sigma:.2f} px of the 512 face ({regions}); eyes {face.eye_distance:.0f} px apart in the picture",
    ]
    for name, value in {"eye_distance": face.eye_distance, **face.guards}.items():
        measure = MEASURES[name]
        if value is not None and measure.fires(value):
            side = "below" if measure.higher_is_better else "above"
            lines.append(f"  flag: {measure.flag} ({name} {value:.3g} {measure.unit}, {side} {measure.limit:g})")
    lines += [f"  {name}: not measured ({why})" for name, why in face.not_measured.items()]
    if len(result.faces) > 1:
        others = (
            f"{f.sharpness:.1f}" if f.sharpness is not None else f.state.replace("_", " ") for f in result.faces[1:]
        )
        lines.append(f"  the largest of {len(result.faces)} faces; the others: {', '.join(others)}")
    return "\n".join(lines)
