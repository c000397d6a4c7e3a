"""Weights that other tools have fetched: in the Hugging Face cache, and in the models folders of A1111, ComfyUI and InvokeAI.

They are used where they lie, through links; nothing is copied, moved or changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import PullFailed, WorkbenchError
from workbench.files import file_sha256, writing
from workbench.models import inspect_model, models_folder, network_in, place_of

from .registry import WeightFile

ENDINGS, PICKLES = (".safetensors", ".pth"), (".ckpt", ".pt")


@dataclass(frozen=True)
class Linked:
    """What is used in place.

    Attributes:
        path: under the models folder; None where it is not used.
        target: where it lies.
        said: what it is, or why it is not used.
    """

    path: Path | None
    target: Path
    said: str


def link(target: Path, path: Path) -> None:
    """Make `path` a link to a file or folder; a link that leads to nothing is replaced. Raises `CannotWrite`, `DiskFull`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() and not path.exists():
            path.unlink()
        path.symlink_to(target.absolute())


def found_in(folder: Path, file: WeightFile) -> Path | None:
    """A file of that name, size and digest in a folder of another tool, however deep. Raises `PullFailed`: no such folder."""
    for path in _files(folder):
        if path.name == Path(file.name).name and _same(path, file):
            return path
    return None


def _same(path: Path, file: WeightFile) -> bool:
    if file.bytes is not None and path.stat().st_size != file.bytes:
        return False
    return not file.digest or file_sha256(path).startswith(file.digest)


def link_all(folder: Path, *, quiet: bool = True) -> list[Linked]:
    """Link every model of another tool's folder that can be used into the models folder, by kind; say why of the others.

    What is there already under its name is left as it is. Raises `PullFailed`: no such folder.
    """
    from tqdm.auto import tqdm

    return [_link_one(path) for path in tqdm(list(_models(folder)), disable=quiet, desc="look", unit="model")]


def _link_one(path: Path) -> Linked:
    if path.is_symlink() and path.is_dir():
        return Linked(None, path, "is a link to a folder, which is not followed; name that folder")
    if path.suffix.lower() in PICKLES:
        return Linked(None, path, "is a pickle, which may run any code; take its .safetensors")
    try:
        place = settled(path)
    except WorkbenchError as error:
        return Linked(None, path, str(error))
    if os.path.lexists(place) and place.exists():
        here = place.resolve() == path.resolve()
        return Linked(place if here else None, path, "is there already" + ("" if here else f", another one: {place}"))
    link(path, place)
    return Linked(place, path, "is used in place")


def settled(path: Path, into: str | None = None) -> Path:
    """Where a file or folder belongs under the models folder, by what is in it.

    `into`: a folder there, where its user knows better. Raises `WrongModel`, `CorruptWeights` for what is not used.
    """
    if into is not None:
        return models_folder() / into / path.name
    if path.suffix == ".pth":
        return models_folder() / network_in(path) / path.name
    return models_folder() / place_of(inspect_model(path)) / path.name


def _files(folder: Path) -> Iterator[Path]:
    """Files of weights, those of pipelines left out."""
    return (path for path in _models(folder) if path.is_file())


def _models(folder: Path) -> Iterator[Path]:
    """Folders in diffusers format, and files of weights outside them; also pickles and linked folders, which are not used."""
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise PullFailed(
            f"{folder} is no folder; name the models folder of the other tool, like stable-diffusion-webui/models."
        )
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders.sort()
        if "model_index.json" in names:
            folders.clear()
            yield here
            continue
        yield from (here / name for name in folders if (here / name).is_symlink())
        yield from (here / name for name in sorted(names) if Path(name).suffix.lower() in (*ENDINGS, *PICKLES))
