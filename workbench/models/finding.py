"""From the name of a model to the file or folder on the disk, and from there to the checkpoint in it. Fetches nothing."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from workbench.errors import CorruptWeights, MissingWeights, WorkbenchError, WrongModel
from workbench.files import file_sha256, home

from .checkpoints import Checkpoint, DiffusersFolder, SingleFile

EMBEDDED = Path(__file__).parent / "embedded"
ONE_FILE = ".safetensors"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
BASES = ("sdxl-base", "sdxl-vpred")
FORMS = "one .safetensors file, or a folder in diffusers format"


def models_folder() -> Path:
    """Where the user puts weights: `$WORKBENCH_HOME/models`."""
    return home() / "models"


def model_path(name: str = "embedded") -> Path:
    """Where a model lies: a `.safetensors` file, or a folder.

    Args:
        name: 'embedded', a name under `$WORKBENCH_HOME/models` (with or without `.safetensors`), a path, or the id of a hub
            repository that is in the local Hugging Face cache.

    Raises:
        MissingWeights: it says where the model was looked for.
    """
    if name == "embedded":
        return EMBEDDED
    rather = f"It may be {FORMS} (README, 'Real weights'); or use model 'embedded', which needs no download."
    return _found(name) or _missing("model", name, rather)


def file_digest(name: str, find: Callable[[str], Path | None] = model_path) -> str:
    """sha256 (hex) of the file that a setting names, as `find` finds it; "" of a folder, and where it is not here."""
    try:
        place = find(name)
        return file_sha256(place) if place and place.is_file() else ""
    except (WorkbenchError, OSError):
        return ""


def vae_path(name: str) -> Path | None:
    """Where another VAE lies, named as a model is; None where the name is empty: the model's own. Raises `MissingWeights`."""
    rather = "It may be a .safetensors file or a folder with config.json; leave vae empty for the model's own."
    return (_found(name) or _missing("VAE", name, rather)) if name else None


def _missing(what: str, name: str, rather: str) -> NoReturn:
    raise MissingWeights(f"the {what} '{name}' is not there: {_looked_at(name)}. {rather}{_near(name)}")


def _found(name: str) -> Path | None:
    # os.path.exists says of a name that is too long that there is no such file, where Path.exists raises
    return next((place for place in _places(name) if os.path.exists(place)), None) or _in_hub_cache(name)


def _places(name: str) -> list[Path]:
    """Where a name may lead, in the order in which it is looked for."""
    here = Path(os.path.abspath(os.path.expanduser(name)))
    given = [here] if os.sep in name or name.startswith((".", "~")) else []
    named = [] if name.startswith((".", "~", os.sep)) else [models_folder() / name]
    file = [here] if here.suffix in (ONE_FILE, *PICKLES) else []  # a bare file name is a path, too
    return [*(p for place in (*given, *named) for p in (place, place.with_name(place.name + ONE_FILE))), *file]


def _in_hub_cache(name: str) -> Path | None:
    if not HUB_ID.fullmatch(name):
        return None
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError):  # not there, or no id after all
        return None


def _looked_at(name: str) -> str:
    places = list(dict.fromkeys(str(p) for p in _places(name) if p.suffix != ONE_FILE or name.endswith(ONE_FILE)))
    places = [place for place in places if not place.endswith(ONE_FILE * 2)]
    hub = " and no hub repository of that id is in the local cache" if HUB_ID.fullmatch(name) else ""
    return f"there is no {' and no '.join(places)}{hub}"


def _near(name: str) -> str:
    """What is in the models folder: under a similar name, else all of it, if that is little."""
    try:
        there = sorted(path.name for path in models_folder().iterdir() if path.is_dir() or path.suffix == ONE_FILE)
    except OSError:
        return ""
    if near := difflib.get_close_matches(name, there, n=1, cutoff=0.5):
        return f" Did you mean '{near[0]}'?"
    return f" There is {', '.join(there)}." if 0 < len(there) <= 8 else ""


def checkpoint_in(path: Path) -> Checkpoint:
    """The checkpoint in a folder or file. Raises `MissingWeights`, `CorruptWeights`, `WrongModel`: a pickle."""
    if path.is_file():
        check_no_pickle(path)
        return SingleFile(path)
    for folder in (path / "base", path):
        if (folder / "model_index.json").is_file():
            return DiffusersFolder(folder)
    files = sorted(path.glob("*" + ONE_FILE))
    whole = [file for file in files if _is_checkpoint(file)]
    if len(whole) == 1:
        return SingleFile(whole[0])
    if whole:
        raise MissingWeights(
            f"{path} holds several checkpoints ({', '.join(file.name for file in whole)}); name one: {whole[0]}."
        )
    raise MissingWeights(
        f"{path} holds no model: there is no base/model_index.json, no model_index.json and no checkpoint as a .safetensors "
        f"file; put {FORMS} there."
    )


def _is_checkpoint(file: Path) -> bool:
    try:
        return SingleFile(file).kind.startswith(("sd", "edm"))
    except CorruptWeights:
        return True  # so that its damage is told, not that nothing is there


def check_no_pickle(path: Path) -> None:
    """Raise `WrongModel` for a file that may run code when it is loaded."""
    if path.suffix.lower() in PICKLES:
        raise WrongModel(
            f"{path} is a pickle: loading one can run any code that is in it, so the workbench does not. Take the "
            ".safetensors of the same model, or convert it in a tool that you trust."
        )


def own_refiner(path: Path) -> Path | None:
    """The refiner that comes with a model: the folder `refiner/` beside `base/`, or beside the base's one file; None where
    there is none."""
    folder = path / "refiner"
    return folder if (folder / "model_index.json").is_file() or any(folder.glob("*" + ONE_FILE)) else None


def base_of(model: str) -> Checkpoint:
    """The checkpoint that makes the first picture.

    Raises `MissingWeights`, `CorruptWeights`, `WrongModel`, `GuidanceEmbedded`.
    """
    return _usable(checkpoint_in(model_path(model)), BASES)


def refiner_path(model: str, refiner: str) -> Path | None:
    """Where the checkpoint of the hires pass lies; None where it is the base itself.

    Args:
        refiner: 'auto' (the model's own where it has one, else the base), 'base', or another model: its own refiner where it
            has one, else its base.

    Raises:
        MissingWeights.
    """
    if refiner == "base":
        return None
    path = model_path(model if refiner == "auto" else refiner)
    return own_refiner(path) or (None if path == model_path(model) else path)


def refiner_of(model: str, refiner: str) -> Checkpoint | None:
    """The checkpoint at `refiner_path`. Raises `MissingWeights`, `CorruptWeights`, `WrongModel`, `GuidanceEmbedded`."""
    path = refiner_path(model, refiner)
    return None if path is None else _usable(checkpoint_in(path), (*BASES, "sdxl-refiner"))


def _usable(checkpoint: Checkpoint, kinds: tuple[str, ...]) -> Checkpoint:
    if checkpoint.kind not in kinds:
        raise WrongModel(f"{checkpoint.path} is {checkpoint.said}")
    if problem := checkpoint.problem():
        raise problem
    return checkpoint
