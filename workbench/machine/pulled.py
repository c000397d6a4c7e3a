"""What was pulled, from where and with which digest: `pulled.json` in the models folder; and whether a weight is whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, TypeAdapter

from workbench.errors import CorruptWeights, OddFile
from workbench.files import file_sha256, locked, read_typed, write_json
from workbench.models import models_folder

from .fetching import GIT, check_structure, digest_like
from .registry import Weight, WeightFile

Status = Literal["ok", "wrong", "missing", "not published"]


class Pulled(BaseModel):
    """Where a file came from. `digest`: as `WeightFile`; `source`: repository and commit, or URL, without any token."""

    source: str
    digest: str = ""
    bytes: int = 0
    at: str = ""


@dataclass(frozen=True)
class Checked:
    """A file against what was published.

    Attributes:
        status: "not published" where no digest of it is known: its size and structure were looked at.
        said: in words.
    """

    path: Path
    status: Status
    said: str


PULLED = TypeAdapter(dict[str, Pulled])


def pulled_files() -> dict[str, Pulled]:
    """{path: where it came from}; {} where nothing was pulled, or the record is damaged: it is no more than that."""
    try:
        return read_typed(_record(), PULLED)
    except (FileNotFoundError, OddFile):
        return {}


def note_pulled(files: Mapping[Path, Pulled]) -> None:
    """Add to the record, beside what other processes add."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with locked(_record().with_suffix(".lock")):
        new = {str(path): each.model_copy(update={"at": now}) for path, each in files.items()}
        write_json(_record(), {n: each.model_dump() for n, each in sorted({**pulled_files(), **new}.items())})


def _record() -> Path:
    return models_folder() / "pulled.json"


def there(weight: Weight) -> Path | None:
    """Where a weight lies; None where a file of it is missing. One file of a whole checkpoint will do, too."""
    if single := single_path(weight):
        return single
    return weight.path() if weight.files and not missing(weight) else None


def single_path(weight: Weight) -> Path | None:
    """The one file that a weight may also be, where it lies where it is loaded from."""
    place = single_target(weight)
    return place if place and place.is_file() else None


def single_target(weight: Weight) -> Path | None:
    """Where the one file belongs that a weight may also be: a base beside `refiner/`, a refiner inside."""
    if not weight.single:
        return None
    folder = weight.path()
    return (folder.parent if folder.name == "base" else folder) / weight.single.name


def missing(weight: Weight) -> list[WeightFile]:
    """Its files that are not on this machine. A small config is one, too."""
    return [file for file in weight.files if not weight.file_path(file).is_file()]


def verify_weight(weight: Weight, *, again: bool = False) -> list[Checked]:
    """Its files against the digests that were published, in the registry or when it was pulled.

    `again`: read them anew, though size, inode and dates are as they were when they were last read.
    """
    if weight.single and (single := single_path(weight)):
        return [_checked(single, weight.single, again)]
    return [_checked(weight.file_path(file), file, again) for file in weight.files]


def verify_files(paths: Iterable[Path], *, again: bool = False) -> list[Checked]:
    """Files that are in no registry, against what was known when they were pulled."""
    return [_checked(path, WeightFile(path.name), again) for path in paths]


def _checked(path: Path, file: WeightFile, again: bool) -> Checked:
    if path.is_dir():
        return Checked(path, "wrong", "is a folder, where a file of that name belongs")
    if not path.exists():
        return Checked(path, "missing", "is not there" + ("; its link leads to nothing" if path.is_symlink() else ""))
    known = pulled_files().get(str(path))
    digest = file.digest or (known.digest if known else "")
    try:
        if not digest:
            check_structure(path, path.name)
            size = path.stat().st_size
            if known and known.bytes and size != known.bytes:
                return Checked(path, "wrong", f"has {size:,} bytes, not {known.bytes:,}")
            return Checked(path, "not published", "has no published digest; its size and structure are right")
    except CorruptWeights as error:
        return Checked(path, "wrong", str(error))
    fresh = again or len(digest) == GIT
    found = digest_like(digest, path) if fresh else file_sha256(path)
    if found.startswith(digest.lower()):
        return Checked(path, "ok", "is what was published")
    return Checked(path, "wrong", f"is not what was published: its digest is {found[:16]}…, not {digest[:16]}…")
