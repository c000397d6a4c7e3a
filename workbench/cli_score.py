"""The commands `score`, `bench score` and `bench sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .settings import UsageError
from .terminal import Json, Quiet, group, say

if TYPE_CHECKING:
    from .scores import FaceScores

bench_app = group("Measure the workbench itself.")


def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures to score.")],
    heatmap: Annotated[
        Path | None, typer.Option(help="PNG to write: blur over the face, regions, flags; OUT-NAME.png for several.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where faces are found: cpu, cuda, cuda:1.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Score the sharpness of the faces in pictures, each face measured at the same size, with guards against being fooled.

    Example: workbench score face.png other.jpg --json
    Example: workbench score face.png --heatmap seen.png
    """
    from .images import UnreadablePicture
    from .scores import score_many

    if heatmap and heatmap.suffix.lower() != ".png":
        raise UsageError(f"{heatmap} is not a .png; give --heatmap the name of one.")
    if heatmap and len({path.stem for path in images}) < len(images):
        raise UsageError("two of the pictures have the same name, and so would their heat maps; score them one by one.")
    rows: list[dict[str, Any]] = []
    lines, bad = [], []
    for path, result in zip(images, score_many(images, device=device), strict=True):
        if isinstance(result, UnreadablePicture):  # the others are still worth scoring
            bad.append(result)
            row: dict[str, Any] = {"status": "unreadable", "sharpness": None, "faces": [], "reason": str(result)}
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


def _write_heatmap(image: Path, result: FaceScores, where: Path, images: int) -> Path:
    from .files import write_atomic
    from .heatmaps import heatmap
    from .images import png_bytes

    path = where if images == 1 else where.with_name(f"{where.stem}-{image.stem}.png")
    write_atomic(path, png_bytes(heatmap(image, result)))
    return path


def _words(path: Path, result: FaceScores) -> str:
    from .measures import MEASURES

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
    if len(result.faces) > 1:
        others = (
            f"{f.sharpness:.1f}" if f.sharpness is not None else f.state.replace("_", " ") for f in result.faces[1:]
        )
        lines.append(f"  the largest of {len(result.faces)} faces; the others: {', '.join(others)}")
    return "\n".join(lines)


@bench_app.command("score")
def bench_score(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Crisp portraits, two or more.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="24 pictures a face instead of about 270.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out CPBD and NIQE, most of the time.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put the score to the test beside the classic ones: blurs it must rank, nuisances and attacks it must withstand.

    Without pictures it takes the two portraits that the score was trained with: good to see that all works, no proof.
    A folder with a faces.json (file, lm5: five landmarks in px) is taken with those landmarks.

    Example: workbench bench score --quick
    Example: workbench bench score portraits/*.png
    """
    from tqdm.auto import tqdm

    from .trust import compare, portraits_of

    portraits = portraits_of(images or [])
    with tqdm(disable=quiet, unit="picture", desc="trust test") as bar:
        report = compare(portraits, quick=quick, fast=fast, progress=bar)
    say(report.to_json(), as_json, lambda: f"{report.table()}\n\n{report.breakdown()}")


@bench_app.command("sweep")
def bench_sweep(
    only: Annotated[
        str | None, typer.Option(metavar="PART,...", help="counters, speed, kill, rerun, device, memory; all of them.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Grids of a few cells: shows that all works.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The naive loop makes every cell, not two for each strength.")
    ] = False,
    model: Annotated[str, typer.Option(help="A model, as in the settings.")] = "embedded",
    size: Annotated[int, typer.Option(help="Side in px of the base pictures whose time is taken.")] = 256,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file to write.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put the engine of sweeps to the test: fewest calls, a naive loop, kill -9, re-runs, a simulated card, memory.

    Every figure stands beside its target. Works in a temporary folder; nothing of yours is read or written.

    Example: workbench bench sweep --quick
    Example: workbench bench sweep --only counters,kill -o result.json
    """
    from tqdm.auto import tqdm

    from .bench_sweep import PARTS, bench_sweep as measure
    from .files import write_json

    parts = [part.strip() for part in only.split(",")] if only else list(PARTS)
    layout = "{desc} [{elapsed}]"
    with tqdm(disable=quiet, bar_format=layout) as bar:
        report = measure(
            parts,
            quick=quick,
            full=full,
            model=model,
            size=size,
            told=bar.set_description_str,
            check=lambda: bar.update(1),
        )
    if output:
        write_json(output, report.to_json())
    say(report.to_json(), as_json, report.table)
