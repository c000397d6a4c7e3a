"""One line of `workbench doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from workbench.errors import WorkbenchError

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        what: the thing.
        status: "warning": some things cannot be made, or not as well; "failed": nothing can, or not what was asked about.
        said: where or what it is, or what is wrong with it.
        remedy: what to do; "" where nothing has to be done.
    """

    what: str
    status: Status
    said: str
    remedy: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def ok(what: str, said: str) -> Finding:
    return Finding(what, "ok", said)


def trouble(what: str, status: Status, error: Exception | str) -> Finding:
    """Of an error, which is a sentence whose last part says what to do; of one that no sentence was made of, its name too."""
    text = str(error) if isinstance(error, WorkbenchError | str) else f"{type(error).__name__}: {error}"
    said, _, remedy = " ".join(text.split()).rstrip(".").rpartition("; ")
    return Finding(what, status, *((said, remedy) if said else (remedy,)))


def found(what: str, status: Status, look: Callable[[], str]) -> Finding:
    """What `look` says of a thing, or the trouble that it met, which has this `status`.

    Any error is one: a library that cannot be imported fails in ways of its own, and the next line has to be said, too.
    """
    try:
        return ok(what, look())
    except Exception as error:
        return trouble(what, status, error)
