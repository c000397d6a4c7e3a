"""What goes wrong in a sweep: one cell's fault, or a reason to stop."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from workbench.errors import (
    Cancelled,
    CorruptWeights,
    DiskFull,
    MissingWeights,
    OutOfMemory,
    StoreUnreachable,
    UsageError,
)
from workbench.files import no_room

ABORTS = (DiskFull, MissingWeights, CorruptWeights, Cancelled, StoreUnreachable, UsageError)

Failure = tuple[str, str]  # reason, traceback
Result = TypeVar("Result")


def twice(work: Callable[[], Result]) -> Result:
    """What `work` returns. Where the device's memory was too small it is tried again: torch's cache of it is empty then."""
    try:
        return work()
    except OutOfMemory:
        return work()


def raise_what_stops(stage: str, error: Exception) -> None:
    """Raise again what is not one cell's fault."""
    if isinstance(error, ABORTS):
        raise error
    if no_room(error):
        raise DiskFull(
            f"there is no room on the disk ({error.args[-1]}), which stopped the {stage} stage; free some and run the same "
            "command again, which continues where it stopped."
        ) from error


def failure(stage: str, error: Exception) -> Failure:
    """How a cell's record says what went wrong. Raises what is not the cell's fault."""
    raise_what_stops(stage, error)
    said = str(error) or type(error).__name__
    trace = "".join(traceback.format_exception(error))
    return said if said.startswith(f"{stage}, ") else f"{stage}: {said}", trace
