"""What a model on the disk is, before anything of it is loaded: from headers and configs, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import CorruptWeights, MissingWeights, WrongModel, WrongVAE

from .architectures import architecture_of
from .checkpoints import Checkpoint, DiffusersFolder, SingleFile
from .embeddings import FOLDER as EMBEDDINGS, is_embedding
from .finding import HUB_ID, ONE_FILE, checkpoint_in, model_path, models_folder, own_refiner
from .headers import read_header
from .licences import UNKNOWN, licence_of
from .loras import ANY_MODEL, LORAS, check_lora
from .parts import variant_of
from .recognition import REASONS, Kind, kind_of_file, kind_of_folder
from .restorers import RESTORER_FILES, RESTORERS
from .upscaler_files import UPSCALER_FILES
from .vaes import SD1_SCALING_FACTOR, VaeSource

Form = Literal["folder", "folder-fp16", "single-file", "hub-cache"]
RUNS = ("sdxl-base", "sdxl-vpred", "sdxl-refiner")


@dataclass(frozen=True)
class ModelInfo:
    """What a model is.

    Attributes:
        path: its file or folder.
        kind: what it is, by its tensors' names and shapes or its configs.
        form: how it lies on the disk; "folder-fp16" has `*.fp16.*` files only.
        licence: in words, from its metadata or a file beside it.
        usable: whether the workbench runs it (a refiner as `refiner`, a VAE as `vae`, a LoRA in `loras`); None where only
            loading can tell.
        reason: a sentence on that.
        refiner: the refiner that comes with it.
        bytes: of its weights.
    """

    path: Path
    kind: Kind
    form: Form
    licence: str
    usable: bool | None
    reason: str
    refiner: Path | None = None
    bytes: int = 0

    def to_json(self) -> dict[str, str | int | bool | None]:
        """JSON values."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "form": self.form,
            "usable": self.usable,
            "reason": self.reason,
            "licence": self.licence,
            "refiner": str(self.refiner) if self.refiner else None,
            "bytes": self.bytes,
        }


def inspect_model(path: str | Path) -> ModelInfo:
    """What a file or folder is and whether the workbench can use it; a file of 7 GB takes as long as a small one.

    `path`: as the setting `model`: a name under `$WORKBENCH_HOME/models`, a path, or the id of a hub repository in the local
    cache. Raises `MissingWeights` where nothing is there.
    """
    name = str(path)
    place = model_path(name)
    hub = HUB_ID.fullmatch(name) is not None and "snapshots" in place.parts
    try:
        checkpoint = checkpoint_in(place)
    except (MissingWeights, CorruptWeights, WrongModel) as error:
        return _without_checkpoint(name, place, hub, str(error))
    kind, form = checkpoint.kind, "hub-cache" if hub else _form(checkpoint)
    if kind == "vae":
        return _vae(name, place, form)
    if kind == "lora":
        return _lora(name, checkpoint.path)
    problem = (checkpoint.missing() or checkpoint.problem()) if kind in RUNS else None
    size = sum(file.stat().st_size for file in _files(checkpoint.path))
    reason = str(problem) if problem else f"{checkpoint.path} is {checkpoint.said}"
    refiner, licence = own_refiner(place), licence_of(name, place)
    usable = kind in RUNS and problem is None
    return ModelInfo(place, kind, form, licence, usable, reason, refiner, size)


def _form(checkpoint: Checkpoint) -> Form:
    if isinstance(checkpoint, DiffusersFolder):
        return "folder-fp16" if checkpoint.half else "folder"
    return "single-file"


def _without_checkpoint(name: str, place: Path, hub: bool, why: str) -> ModelInfo:
    """Of what is no checkpoint: one network's folder, a LoRA's, a damaged file, a pickle."""
    form: Form = "hub-cache" if hub else "single-file" if place.is_file() else "folder"
    kind: Kind = "unknown"
    reason = why
    try:
        if place.is_dir():
            kind = _kind_inside(place)
            reason = f"{place} is {REASONS[kind]}" if kind != "unknown" else why
            form = "folder-fp16" if form == "folder" and variant_of(place) else form
    except CorruptWeights as error:
        reason = str(error)
    if kind == "vae" or (place.is_file() and kind == "unknown" and _is_known_vae(place)):
        return _vae(name, place, form)
    size = sum(file.stat().st_size for file in _files(place))
    return ModelInfo(place, kind, form, licence_of(name, place), False, reason, bytes=size)


def _kind_inside(folder: Path) -> Kind:
    """Of a folder without a checkpoint: by its config, else by the one `.safetensors` file in it."""
    kind = kind_of_folder(folder)[0]
    files = sorted(folder.glob("*" + ONE_FILE))
    return kind_of_file(read_header(files[0]))[0] if kind == "unknown" and len(files) == 1 else kind


def _is_known_vae(place: Path) -> bool:
    """Whether a pickle is a published Stable Diffusion 1.x VAE: only small ones are looked at, since that reads the file."""
    if place.suffix == ONE_FILE or place.stat().st_size > 1_000_000_000:
        return False
    try:
        VaeSource(place)
    except WrongVAE:
        return True
    except (MissingWeights, CorruptWeights, WrongModel):
        return False
    return False


def _vae(name: str, place: Path, form: Form) -> ModelInfo:
    """Of a VAE. By digest and config some are known to be SDXL's or another's; the rest shows when it is loaded."""
    size = sum(file.stat().st_size for file in _files(place))
    licence = licence_of(name, place)
    try:
        source = VaeSource(place)
        scale = source.scaling_factor
    except (WrongVAE, CorruptWeights, MissingWeights, WrongModel) as error:
        return ModelInfo(place, "vae", form, licence, False, str(error), bytes=size)
    if source.known:
        return ModelInfo(
            place, "vae", form, licence, True, f"{place} is one of SDXL's VAEs; name it in vae.", bytes=size
        )
    if scale == SD1_SCALING_FACTOR:
        reason = f"{place} is a Stable Diffusion 1.x VAE (scaling_factor {scale}), whose latents are not SDXL's."
        return ModelInfo(place, "vae", form, licence, False, reason, bytes=size)
    reason = (
        f"{place} is a VAE alone; name it in vae. Whether its latents are SDXL's or Stable Diffusion 1.x's, whose VAE has "
        "the very same tensors, shows when it is loaded: it is compared with the model's own then."
    )
    return ModelInfo(place, "vae", form, licence, None, reason, bytes=size)


def _lora(name: str, place: Path) -> ModelInfo:
    """Of a LoRA, which the workbench can use if it is a plain one made for SDXL."""
    usable, size = True, place.stat().st_size
    try:
        made_for = check_lora(place)
        usable = made_for in ("SDXL", ANY_MODEL)
        reason = f"{place} is a LoRA for {made_for}" + ("; name it in loras." if usable else ", not for SDXL.")
    except (WrongModel, CorruptWeights) as error:
        usable, reason = False, str(error)
    return ModelInfo(place, "lora", "single-file", licence_of(name, place), usable, reason, bytes=size)


def _network(kind: Literal["restorer", "upscaler"], path: Path) -> ModelInfo:
    """Of a file that restores faces or enlarges pictures, told from its tensors."""
    usable, size = True, path.stat().st_size
    licence = licence_of(path.stem, path)
    try:
        found = architecture_of(path)
        usable = (found in RESTORERS) == (kind == "restorer")
        reason = f"{path} is {found}" + (f"; name it in {kind}." if usable else f", which is no {kind}.")
        licence = RESTORERS[found].licence if found in RESTORERS and licence.endswith(UNKNOWN) else licence
    except (WrongModel, CorruptWeights) as error:
        usable, reason = False, str(error)
    return ModelInfo(path, kind, "single-file", licence, usable, reason, bytes=size)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and file.suffix in (ONE_FILE, ".bin")]


def list_models() -> list[ModelInfo]:
    """What is in `$WORKBENCH_HOME/models`, by name, then its LoRAs, restorers and upscalers.

    CodeFormer's own file and the detectors' are left out.
    """
    folder = models_folder()
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    entries = [path for path in names if path.is_dir() or path.suffix in (ONE_FILE, ".ckpt")]
    shelves = (LORAS, RESTORER_FILES, UPSCALER_FILES)
    own = (*(name for shelf in shelves for name in shelf.folders), EMBEDDINGS)
    shown = [p for p in entries if not p.name.startswith(".") and p.suffix != SingleFile.OWN and p.name not in own]
    found = [inspect_model(path.name) if path.exists() else _dangling(path) for path in shown]
    found += [_lora(path.stem, path) for path in LORAS.files()]
    found += [_network("restorer", path) for path in RESTORER_FILES.files()]
    return [*found, *(_network("upscaler", path) for path in UPSCALER_FILES.files())]


def _dangling(path: Path) -> ModelInfo:
    reason = f"{path} is a link that leads to nothing; put the file there, or take the link away."
    return ModelInfo(path, "unknown", "single-file", licence_of(path.name, None), False, reason)


def place_of(info: ModelInfo) -> str:
    """The folder under the models folder where a `.safetensors` file or a diffusers folder is looked for, "." of checkpoints.

    Raises `WrongModel` for what the workbench does not use.
    """
    if info.kind == "lora" and info.usable:
        return LORAS.folders[0]
    if info.kind == "unknown" and info.path.is_file():
        return EMBEDDINGS if is_embedding(info.path) else network_in(info.path)
    if info.usable is False:
        raise WrongModel(info.reason)
    return "."


def network_in(path: Path) -> str:
    """The folder under the models folder where a file that restores faces or enlarges pictures is looked for.

    Raises `WrongModel`, `CorruptWeights` for another one.
    """
    shelf = RESTORER_FILES if architecture_of(path) in RESTORERS else UPSCALER_FILES
    return shelf.folders[0]
