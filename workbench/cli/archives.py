"""The commands `runs export` and `runs import`: a run as one file, so that nothing stays on a machine that is deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .alive import alive
from .naming import RunName, named_run
from .runs import runs_app
from .terminal import Json, Quiet, say

if TYPE_CHECKING:
    from workbench.runs import Run


@runs_app.command("export")
def runs_export(
    run: RunName,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; RUN.tar, if left out.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a run into one tar: records, table, pictures, votes, report, and the presets that it began with or became.

    The stages in the store are not in it: `runs import` elsewhere has everything to look at, to judge and to promote. A run
    that is being worked on is exported as it is now.

    Example: workbench runs export latest
    Example: workbench runs export latest -o /mnt/kept/portraits.tar
    """
    from workbench.runs import check_export, export_run
    from workbench.sweeps import attach

    found = named_run(run)
    check_export(found, output, force=force)
    working = attach(found).worker is not None
    with alive("bringing table and report up to date", quiet or as_json):
        notes = _drawn(found)
    if working:
        notes.append(f"a process works on {found.id}: this is its state of now; export it again when it has ended.")
    made = export_run(found, output, force=force, quiet=quiet or as_json)
    for note in notes:
        typer.echo(f"workbench: {note}", err=True)
    presets = f", with the presets {', '.join(made.presets)}" if made.presets else ""
    words = f"{made.path}  ({made.bytes / 1e6:.1f} MB, {made.files} files{presets})"
    say({**made.to_json(), "working": working, "notes": notes}, as_json, lambda: words)


def _drawn(run: Run) -> list[str]:
    """Bring a run's table and report up to its records; a sentence on each that could not be."""
    from workbench.report import write_report
    from workbench.runs import write_table

    tasks: dict[str, Callable[[Run], object]] = {"table.csv": write_table, "report.html": write_report}
    return [why for name, write in tasks.items() if (why := _written(run, name, write))]


def _written(run: Run, name: str, write: Callable[[Run], object]) -> str:
    growing = ("journal.jsonl", "votes.jsonl", "marks.jsonl")
    changed = [path.stat().st_mtime_ns for each in growing if (path := run.path / each).exists()]
    path = run.path / name
    if path.exists() and path.stat().st_mtime_ns >= max(changed, default=0):
        return ""
    try:
        write(run)
    except Exception as error:  # whatever a drawing trips over must not leave the run on a box that is deleted
        left = "is the one of before" if path.exists() else "is not in the archive"
        return f"{name} could not be made ({str(error).rstrip('.')}), so it {left}."
    return ""


@runs_app.command("import")
def runs_import(
    archive: Annotated[Path, typer.Argument(metavar="FILE.tar", help="What workbench runs export has written.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Bring an exported run back, under its name: to be shown, reported, judged and promoted from as where it was made.

    Every file is checked against its hash before any of them appears. A run that is there already is left as it is.

    Example: workbench runs import portraits.tar
    """
    from workbench.runs import import_run

    made, written = import_run(archive, quiet=quiet or as_json)
    lines = [
        f"{made.run.path}  ({made.files} files)" if written else f"{made.run.path} is there already, the very same."
    ]
    lines += [f"preset {name}: {path}" for name in made.presets if (path := made.run.path / "presets" / name).exists()]
    say({**made.to_json(), "written": written}, as_json, lambda: "\n".join(lines))
