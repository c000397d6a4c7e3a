"""The command `disk`: what fills the disk, and making room on it."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import Cancelled, NobodyToAsk, NotEnoughToFree, UsageError

from .terminal import Json, Quiet, say

if TYPE_CHECKING:
    from workbench.machine import DiskItem, DiskLook, Freed, Proposal
    from workbench.presets import Preset

WIDE = 110  # characters of a line of reasons
SMALL = 1_000_000  # bytes; what is smaller is not worth a line of its own


def disk(
    free: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Make so much room, like 20GB; `all` for all that is safe.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Also say what this preset needs; it is kept.")] = None,
    on: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The disk of this path; else that of WORKBENCH_HOME.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Free it without asking.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """What fills the disk, what is safe to free and why the rest is not. Removes nothing without --free.

    --free proposes what costs least to have again and asks: first leftovers, then caches of packages, then finished stages,
    then models that no preset here needs. Runs, weights and what is not known are never removed, and no link is followed.

    Example: workbench disk --preset recommended
    Example: workbench disk --free 20GB
    Example: workbench disk --free 20GB --yes --json
    """
    from tqdm.auto import tqdm

    from workbench.machine import free as remove, look_at_disk, propose
    from workbench.presets import load_preset
    from workbench.store import parse_size

    if on is not None and not on.exists():
        raise UsageError(f"--on {on} is not there; name a path on the disk that is meant.")
    wanted = None if free in (None, "all") else parse_size(str(free), "--free")
    chosen = load_preset(preset) if preset else None
    with tqdm(disable=quiet or as_json, unit=" files", desc="looking", delay=1.0, leave=False) as bar:
        look = look_at_disk(chosen, on=on, unknown=free is None, tick=bar.update)
    if free is None:
        say(look.to_json(), as_json, lambda: look_words(look))
        return
    proposal = propose(look, wanted)
    _check_enough(proposal, as_json)
    _ask(proposal, look, chosen, yes, as_json)
    with tqdm(disable=quiet or as_json, unit=" files", desc="freeing", delay=1.0, leave=False) as bar:
        freed = remove(proposal, tick=bar.update)
    say({**proposal.to_json(), **freed.to_json()}, as_json, lambda: freed_words(freed, look))


def _check_enough(proposal: Proposal, as_json: bool) -> None:
    from workbench.store import size_words

    if proposal.enough and proposal.parts:
        return
    if as_json:
        say(proposal.to_json(), True, str)
    there = proposal.available
    if not there:
        raise NotEnoughToFree(
            "nothing here is safe to free, so nothing was freed; workbench disk says what fills the disk."
        )
    raise NotEnoughToFree(
        f"{size_words(there)} can be freed safely, not {size_words(proposal.wanted or 0)}, so nothing was freed; --free all "
        "frees what there is, and workbench disk says what fills the rest."
    )


def _ask(proposal: Proposal, look: DiskLook, preset: Preset | None, yes: bool, as_json: bool) -> None:
    """Show what would go and ask. Raises `NobodyToAsk` where there is no terminal, `Cancelled` where the answer is no."""
    if not as_json:
        typer.echo(proposal_words(proposal, look))
    if yes:
        return
    if as_json:
        say(proposal.to_json(), True, str)
    if as_json or not sys.stdin.isatty():
        raise NobodyToAsk("nothing was freed: there is no terminal to ask at; add --yes to free what is listed above.")
    if not typer.confirm("Remove this?", default=False):
        raise Cancelled("nothing was freed, as you said.")


def look_words(look: DiskLook) -> str:
    """What fills the disk, as a table; the largest first."""
    from workbench.store import size_words

    lines = [f"{_disk_words(look)}; {size_words(look.safe)} are safe to free"]
    shown = [item for item in look.items if item.bytes >= SMALL or (item.why and not item.bytes)]
    lines += ["", _row("on disk", "to free", "what", "where"), *(_item_row(item) for item in shown)]
    if small := [item for item in look.items if 0 < item.bytes < SMALL]:
        lines.append(f"  and {len(small)} known things below {size_words(SMALL)} each")
    lines += ["", *_other_lines(look)]
    if look.preset:
        lines += ["", *_need_lines(look)]
    if look.safe:
        lines += [
            "",
            "workbench disk --free 5GB proposes what to remove for so much room (or --free all), and asks first",
        ]
    return "\n".join(lines)


def _disk_words(look: DiskLook) -> str:
    from workbench.store import size_words

    return f"disk {_short(look.top)}: {size_words(look.free)} of {size_words(look.total)} are free"


def _row(*cells: str) -> str:
    return f"{cells[0]:>9}  {cells[1]:>9}  {cells[2]:<28}  {cells[3]}"


def _item_row(item: DiskItem) -> str:
    from workbench.store import size_words

    size = size_words(item.bytes) if item.bytes else "?"
    row = _row(size, size_words(item.free) if item.safe else "–", _short(item.what), _short(item.where))
    return "\n".join([row, *textwrap.wrap(_short(item.why), WIDE, initial_indent=" " * 22, subsequent_indent=" " * 22)])


def _other_lines(look: DiskLook) -> list[str]:
    from workbench.store import size_words

    together = sum(look.others.values()) + look.rest
    lines = [f"other: {size_words(together)} that are not known here, and never removed"]
    lines += [
        f"{size_words(size):>9}             {_short(folder)}" for folder, size in look.others.items() if size >= SMALL
    ]
    lines.append(f"{size_words(look.rest):>9}             elsewhere")
    if look.unreadable:
        lines.append(f"{look.unreadable} folders cannot be read by you; what is in them is not counted")
    return lines


def _need_lines(look: DiskLook) -> list[str]:
    lines = [f"preset {look.preset} needs, and keeps:"]
    for need in look.needs:
        where = _short(str(need.path)) if need.path else "not on this machine yet"
        lines.append(f"  {need.setting} {need.name}: {where}")
    return lines


def proposal_words(proposal: Proposal, look: DiskLook) -> str:
    """What would be removed."""
    from workbench.store import size_words

    lines = [f"{_disk_words(look)}. To be removed:"]
    for item, size in proposal.parts:
        part = " (a part of it)" if size < item.free else ""
        lines.append(f"{size_words(size):>9}  {_short(item.what)}{part}  {_short(item.where)}")
        lines += textwrap.wrap(_short(item.why), WIDE, initial_indent=" " * 11, subsequent_indent=" " * 11)
    lines.append(f"{size_words(proposal.bytes):>9}  together")
    if proposal.fetched_again:
        lines.append(
            f"{'':>9}  to be fetched again, should you need them: {size_words(proposal.fetched_again)} of weights"
        )
    if look.preset:
        lines += _need_lines(look)
    return "\n".join(lines)


def freed_words(freed: Freed, look: DiskLook) -> str:
    """What was removed."""
    import shutil

    from workbench.store import size_words

    lines = [f"{size_words(size):>9}  {_short(item.what)}  {_short(item.where)}" for item, size in freed.parts]
    free = shutil.disk_usage(look.top).free
    stay = f"; {freed.left} files stay, since they changed meanwhile, are in use or are not yours" if freed.left else ""
    lines.append(f"freed {size_words(freed.bytes)} in {freed.files} files{stay}")
    lines.append(f"{size_words(free)} of the disk are free now, {size_words(look.free)} were before")
    return "\n".join(lines)


def _short(text: str) -> str:
    """A path or sentence on one line, with `~` for the home folder."""
    from workbench.machine import plain_name

    home = os.path.expanduser("~")
    return plain_name(f"~{text[len(home) :]}" if text.startswith(f"{home}/") and len(home) > 1 else text)
