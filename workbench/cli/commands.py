"""All commands together.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 not promoted; errors are one sentence on stderr.
"""

from __future__ import annotations

from typing import Annotated

import typer

from . import archives as archives  # its commands are in the group of runs
from .benchmarks import bench
from .disk import disk
from .doctor import doctor
from .exchange import presets_export, presets_import
from .models import models_app
from .notebooks import notebook_app
from .pictures import generate
from .presets import presets_app
from .promotion import challenge, promote, verdict
from .reports import report
from .runs import runs_app, sweep
from .scores import score
from .server import serve
from .store import store_app
from .terminal import run

app = typer.Typer(
    name="workbench",
    help="Tune SDXL faces: generate, sweep, score, promote, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
NOUNS = {
    "models": models_app,
    "runs": runs_app,
    "presets": presets_app,
    "notebook": notebook_app,
    "store": store_app,
}
for noun, group in NOUNS.items():
    app.add_typer(group, name=noun)
presets_app.command("export")(presets_export)
presets_app.command("import")(presets_import)
for command in (score, sweep, report, challenge, verdict, promote, generate, serve, disk, doctor):
    app.command()(command)
# scripts of before name benchmarks that went elsewhere, with their own options
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench)


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The workbench's commands; each has --help with an example."""


def main() -> None:
    """Entry point of the command `workbench`."""
    run(app)
