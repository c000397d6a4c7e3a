"""The benchmarks of the workbench itself: `make bench-score`, `make bench-sweep`, or `python -m experiments.benchmarks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.terminal import Json, Quiet, group, run, say

app = group("Measure the workbench itself.")


@app.command("score")
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

    Example: make bench-score ARGS='--quick'
    Example: make bench-score ARGS='portraits/*.png'
    """
    from tqdm.auto import tqdm

    from .trust import compare, portraits_of

    portraits = portraits_of(images or [])
    with tqdm(disable=quiet, unit="picture", desc="trust test") as bar:
        report = compare(portraits, quick=quick, fast=fast, progress=bar)
    say(report.to_json(), as_json, lambda: f"{report.table()}\n\n{report.breakdown()}")


@app.command("sweep")
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

    Example: make bench-sweep ARGS='--quick'
    Example: make bench-sweep ARGS='--only counters,kill -o result.json'
    """
    from tqdm.auto import tqdm

    from experiments.benchmarks.engine import PARTS, bench_sweep as measure
    from workbench.files import write_json

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


if __name__ == "__main__":
    run(app)
