"""The weights that a script needs: how they are called, where they lie beside what its user names, and their sha256."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.files import file_sha256
from workbench.models import Sdxl, lora_path, model_path
from workbench.settings import Settings, Weighted, short_name

if TYPE_CHECKING:
    from workbench.models import Checkpoint

DIGITS = 16  # of a sha256
USUAL = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False, "timestep_spacing": "leading"}


@dataclass
class ScriptModel:
    """A checkpoint that the script loads.

    Attributes:
        place: in Python: `args.model / "base"`.
        half: whether it is there in files for float16 only.
        scheduler: its own scheduler config; {} where the model is not on this machine.
        changes: what the script has to change in what diffusers loads of it.
    """

    place: str
    half: bool = False
    scheduler: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass
class ScriptFiles:
    """All of them.

    Attributes:
        named: {option of the script: what the settings call it}: "model", and "refiner", "vae" where these lie elsewhere.
        sums: {option: {file: the first digits of its sha256}}.
        base, refiner: `refiner` is None where the base's own networks refine.
        refines: whether `refiner` is SDXL's, which takes no LoRA.
        vae: in Python, where another VAE is to be loaded; else "".
    """

    named: dict[str, str]
    sums: dict[str, dict[str, str]]
    base: ScriptModel
    refiner: ScriptModel | None = None
    refines: bool = False
    vae: str = ""
    notes: list[str] = field(default_factory=list)

    def scheduler_of(self, *, hires: bool) -> dict[str, Any]:
        return (self.refiner if hires and self.refiner else self.base).scheduler


def script_files(s: Settings) -> ScriptFiles:
    """What the script has to load. Of what is not on this machine no file is checked, and its usual form is taken."""
    named = {"model": short_name(s.model)}
    found = ScriptFiles(named, {"model": {}}, ScriptModel("args.model"))
    sdxl = Sdxl(s.model, s.vae, s.refiner, s.dtype)
    try:
        root, base = model_path(s.model), sdxl.base
    except WorkbenchError:
        found.notes.append(
            f"the model {short_name(s.model)} is not on this machine, so the script does not check its files, and refines "
            "with the same checkpoint unless refiner names another one."
        )
        if s.hires and s.refiner not in ("auto", "base"):
            _named(found, "refiner", s.refiner)
            found.refiner = ScriptModel("args.refiner")
    else:
        found.base = _model(found, "model", root, base, vae=not s.vae)
        if s.hires:
            _add_refiner(found, s, sdxl, root)
    if s.vae:
        _add_vae(found, s, sdxl)
    return found


def _add_refiner(found: ScriptFiles, s: Settings, sdxl: Sdxl, root: Path) -> None:
    try:
        other, path = sdxl.other, sdxl.refiner_path()
    except WorkbenchError:
        _named(found, "refiner", s.refiner)
        found.refiner = ScriptModel("args.refiner")
        found.notes.append(f"the refiner {short_name(s.refiner)} is not on this machine, so its files are not checked.")
        return
    if other is None or path is None:
        return
    found.refines = other.refines
    option = "model" if path.is_relative_to(root) else "refiner"
    if option == "refiner":
        _named(found, option, s.refiner)
        root = model_path(s.refiner)
    found.refiner = _model(found, option, root, other, vae=not s.vae)


def _add_vae(found: ScriptFiles, s: Settings, sdxl: Sdxl) -> None:
    _named(found, "vae", s.vae)
    found.vae = "args.vae"
    try:
        given = sdxl.given_vae
    except WorkbenchError:
        found.notes.append(f"the VAE {short_name(s.vae)} is not on this machine, so its files are not checked.")
        return
    if given:
        folder = given.path if given.path.is_dir() else given.path.parent
        root = given.path if given.path.is_file() else folder
        found.sums["vae"] = _sums(given.weights(), root)


def _named(found: ScriptFiles, option: str, name: str) -> None:
    found.named[option] = short_name(name)
    found.sums.setdefault(option, {})


def _model(found: ScriptFiles, option: str, root: Path, checkpoint: Checkpoint, *, vae: bool) -> ScriptModel:
    networks = [part for part in checkpoint.networks if checkpoint.has(part) and (vae or part != "vae")]
    found.sums[option] |= _sums([file for part in networks for file in checkpoint.weights(part)], root)
    inside = checkpoint.path.relative_to(root).as_posix()
    config = checkpoint.scheduler_config()
    changes = {name: config[name] for name, usual in USUAL.items() if name in config and config[name] != usual}
    place = f"args.{option}" + "".join(f' / "{part}"' for part in inside.split("/") if part != ".")
    if checkpoint.path.is_file() and not checkpoint.path.with_suffix(".config").is_dir():
        found.notes.append(
            f"{inside if inside != '.' else root.name} is one file, for which diffusers fetches SDXL's configs."
        )
    half = bool(getattr(checkpoint, "half", False))
    return ScriptModel(place, half, config, changes if checkpoint.path.is_file() else {})


def _sums(files: Sequence[Path], root: Path) -> dict[str, str]:
    tensors = dict.fromkeys(file for file in files if file.suffix != ".json")
    return {file.relative_to(root).as_posix().strip("."): file_sha256(file)[:DIGITS] for file in tensors}


def lora_file_names(items: Sequence[Weighted]) -> list[str]:
    """The names of the files of LoRAs; of one that is not on this machine, the usual one."""
    names = []
    for item in items:
        try:
            names.append(lora_path(item.file).name)
        except WorkbenchError:
            names.append(f"{item.name}.safetensors")
    return names
