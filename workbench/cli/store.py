"""The commands `store stats`, `store prune` and `store verify`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import DamagedStore, UnreadableSpan, UsageError

from .terminal import Json, Quiet, group, say

if TYPE_CHECKING:
    from workbench.store import StoreStats

store_app = group("Look after the store of finished stages.")

SPANS = {"min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@store_app.command("stats")
def stats(as_json: Json = False) -> None:
    """What the store holds, by stage: artefacts, bytes, seconds of work kept, last use; its limit and the free disk.

    Example: workbench store stats
    """
    from workbench.store import Store, stats as look

    found = look(Store.at_home())
    say(found.to_json(), as_json, lambda: _stats_words(found))


def _stats_words(found: StoreStats) -> str:
    from workbench.store import size_words

    limit = f"the limit is {size_words(found.limit)}" if found.limit else "no limit"
    free = f", {size_words(found.free)} are free on its disk" if found.free is not None else ""
    lines = [f"{found.store}: {limit}{free}"]
    for name, row in {**found.stages, "together": found.together}.items():
        used = _ago(row.last_use) if row.last_use else "not known"
        lines.append(
            f"  {name:<9}{row.artefacts:>7} artefacts{size_words(row.bytes):>10}"
            f"{row.seconds:>10.0f} s of work   last used: {used}"
        )
    if found.leftovers.files:
        size = size_words(found.leftovers.bytes)
        lines.append(
            f"  {found.leftovers.files} files ({size}) are not finished; workbench store verify --drop drops old ones"
        )
    if found.pinned:
        lines.append(f"  {found.pinned} keys are kept by running work")
    return "\n".join(lines)


def _ago(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    unit, length = next(
        (pair for pair in (("days", 86400), ("hours", 3600), ("minutes", 60)) if seconds >= 2 * pair[1]), ("seconds", 1)
    )
    return f"{seconds / length:.0f} {unit} ago"


@store_app.command("prune")
def prune(
    to: Annotated[str | None, typer.Option(metavar="SIZE", help="Bytes to leave, like 10GB; else the limit.")] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Drop what was not used for so long, like 30d, 12h, 2w.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Make the store smaller: first what is older than --older-than, then what frees most bytes per second of work.

    What running work keeps, or used within the last minute, stays. What was dropped is computed again when it is needed.

    Example: workbench store prune --to 10GB --older-than 30d --dry-run
    """
    from workbench.store import Store, parse_size, size_words

    store = Store.at_home()
    span = _span(older_than) if older_than else None
    size = parse_size(to, "--to") if to else store.limit or None
    if size is None and span is None:
        raise UsageError(
            "the store has no limit; say how much to leave with --to 10GB, or what to drop with --older-than."
        )
    gone = store.evict(size if size is not None else 1 << 62, older_than=span, dry_run=dry_run)
    about = {
        "store": str(store.place),
        "dry_run": dry_run,
        "artefacts": len(gone.keys),
        "bytes": gone.size,
        "seconds": round(gone.seconds, 3),
        "left": gone.left,
    }
    say(
        about,
        as_json,
        lambda: (
            f"{'would drop' if dry_run else 'dropped'} {len(gone.keys)} artefacts, {size_words(gone.size)} and "
            f"{gone.seconds:.0f} s of work; {size_words(gone.left)} {'would be' if dry_run else 'are'} left"
        ),
    )


def _span(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(min|h|d|w)", text.strip().lower())
    if not match:
        raise UnreadableSpan(f"--older-than = '{text}' is not a span of time; write 90min, 12h, 30d or 2w.")
    return float(match[1]) * SPANS[match[2]]


@store_app.command("verify")
def verify(
    drop: Annotated[bool, typer.Option("--drop", help="Drop what is damaged, and files never finished.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read every artefact and check its hashes. Exit status 1 if something is damaged and was not dropped.

    Example: workbench store verify --drop
    """
    from tqdm.auto import tqdm

    from workbench.store import Store, verify as check

    with tqdm(disable=quiet, unit="artefact", desc="verify") as bar:
        found = check(Store.at_home(), drop=drop, progress=bar)
    dropped = " (dropped)" if drop else ""
    lines = [f"{row['key']}: {row['reason']}{dropped}" for row in found.damaged]
    lines += [f"{name}: never finished{dropped}" for name in found.leftovers]
    lines.append(f"{found.store}: {found.artefacts} artefacts read, {len(found.damaged)} of them damaged{dropped}")
    say(found.to_json(), as_json, lambda: "\n".join(lines))
    if found.damaged and not drop:
        raise DamagedStore(
            f"{len(found.damaged)} artefacts are damaged; they are never served, and --drop takes them off the disk."
        )
