"""Files by the names that other tools know them by: without folder, and with the first digits of their sha256."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.files import file_sha256
from workbench.models import ModelInfo, list_models, model_path

SHORT = 10  # digits of a sha256 in A1111's "Model hash"


def file_digest(model: str) -> str | None:
    """sha256 (hex) of the file that the setting `model` names; None of a folder, and where it is not here."""
    try:
        place = model_path(model)
        return file_sha256(place) if place.is_file() else None
    except (WorkbenchError, OSError):
        return None


def known_file(name: str, kind: str, digest: str = "") -> tuple[str, str]:
    """(what our setting should be, what was guessed about that in a sentence or "") for a file of another tool's.

    Args:
        name: as the tool has it, with or without folder and ending.
        kind: "base", "refiner", "lora", "restorer" or "upscaler", as `list_models` has it.
        digest: the first digits of its sha256, where the tool says them.
    """
    plain = _plain(name)
    here = [info for info in list_models() if info.usable and info.kind == kind]
    same_name = [info for info in here if _plain(info.path.name) == plain]
    if not same_name and digest:
        same_name = [info for info in here if _has(info, digest)]
        if same_name:
            found = same_name[0].path.stem
            return found, f"{found} was taken for {name}: it has the same sha256."
    if not same_name:
        return name, f"{name} is not among your models; put it there before a picture is made."
    found = same_name[0].path.stem if same_name[0].path.is_file() else same_name[0].path.name
    if digest and not _has(same_name[0], digest):
        return found, f"{found} has the name, but another sha256 than {digest}: it may be another version."
    return found, ""


def _plain(name: str) -> str:
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return (
        last[: -len(suffix)] if (suffix := Path(last).suffix) in (".safetensors", ".ckpt", ".pth", ".pt") else last
    ).lower()


def _has(info: ModelInfo, digest: str) -> bool:
    try:
        return info.path.is_file() and file_sha256(info.path).startswith(digest.lower())
    except OSError:
        return False
