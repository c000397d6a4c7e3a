"""The command `notebook run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Json, Quiet, assignments, group, say

notebook_app = group("Run notebooks.")


@notebook_app.command("run")
def notebook_run(
    name: Annotated[str, typer.Argument(help="Notebook path, or its name in notebooks/.")],
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Parameter; repeatable.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Executed notebook; left out: reports/NAME-<date>.ipynb. HTML beside it."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a notebook by papermill with checked parameters; write it as a report, also as HTML.

    Run again after a failure, it goes on from what is in the store.

    Example: workbench notebook run 02_sweep -p spec=experiments/demo.toml -o report.ipynb
    """
    from workbench.notebook import run_notebook

    done = run_notebook(name, assignments(parameters), output, quiet=quiet)
    say(
        {"notebook": str(done), "html": str(done.with_suffix(".html"))},
        as_json,
        lambda: f"{done}\n{done.with_suffix('.html')}",
    )
