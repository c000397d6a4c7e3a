"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .naming import RunName, named_run
from .terminal import Json, say


def report(
    run: RunName,
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

    found = named_run(run)
    check_writable(output or found.path / "report.html")
    path = write_report(found, output)
    about = {"run": found.id, "report": str(path), "bytes": path.stat().st_size}
    say(about, as_json, lambda: f"{path}  ({about['bytes'] / 1e6:.1f} MB)")
