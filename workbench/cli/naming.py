"""The run that a command is about: named once, and said where the name leaves it open."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workbench.runs import Run

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Run id, its start or end, 'latest', or folder.")]


def named_run(name: str, *, duel: bool | None = None) -> Run:
    """The run of that name. Of `latest`, stderr says which one it is and from when, and whether that can be true; `duel`: the
    newest that is one, or is none.

    Raises `RunNotFound`, `BadRun`.
    """
    from workbench.runs import find_run

    if duel is None:
        run = find_run(name)
    else:
        from workbench.promotion import duel_named, sweep_named

        run = (duel_named if duel else sweep_named)(name)
    begun = run.created
    said = run.problems()
    if name == "latest":
        said = [f"latest is {run.id}, begun {begun:%Y-%m-%d %H:%M:%S}.", *said]
        if begun > datetime.now().astimezone():
            said.append(
                f"{run.id} says that it was begun in the future, so a clock was or is wrong, and it stays the latest until "
                "then; name the run that you mean by its id."
            )
    for sentence in said:
        typer.echo(f"workbench: {sentence}", err=True)
    return run
