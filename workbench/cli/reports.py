"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Json, say


def report(
    run: Annotated[str, typer.Argument(help="Run id, its start or end, 'latest', or folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML file to write; report.html in the run's folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run's report as one HTML file: wall, ranking, plots, votes, notes.

    Example: workbench report latest -o report.html
    """
    from workbench.files import check_writable
    from workbench.report import write_report
    from workbench.runs import find_run

    found = find_run(run)
    check_writable(output or found.path / "report.html")
    path = write_report(found, output)
    about = {"run": found.id, "report": str(path), "bytes": path.stat().st_size}
    say(about, as_json, lambda: f"{path}  ({about['bytes'] / 1e6:.1f} MB)")
