"""Reading what the workbench has written itself: through types, since files may be damaged or of another version."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from workbench.errors import OddFile

Kind = TypeVar("Kind")


def fits(value: object, kind: TypeAdapter[Kind]) -> bool:
    """Whether a JSON value is of this type; it may hold more."""
    try:
        kind.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def read_typed(path: Path, kind: TypeAdapter[Kind]) -> Kind:
    """The JSON of a file, which is of this type; what a newer version has added stays in it.

    Raises `FileNotFoundError`, and `OddFile` that names the file and says what is wrong with it.
    """
    try:
        return kind.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise OddFile(f"{path} cannot be read ({f'{place}: ' if place else ''}{first['msg']}).") from None
    except OSError as error:
        raise OddFile(f"{path} cannot be read ({error.strerror}).") from None
