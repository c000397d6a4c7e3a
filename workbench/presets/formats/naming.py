"""Files by the names that other tools know them by: without folder, and with the first digits of their sha256."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.files import file_sha256, known_sha256
from workbench.models import ModelInfo, list_models, tensors_sha256

KINDS = {"base": ("sdxl-base", "sdxl-vpred"), "refiner": ("sdxl-refiner", "sdxl-base", "sdxl-vpred")}
"""Kinds of models that a setting takes, where they are not one that is called as the setting."""


EMBEDDED = "embedded"  # the model that comes with the package


def known_file(name: str, kind: str, digest: str = "") -> tuple[str, str]:
    """(what our setting should be, what was guessed about that in a sentence or "") for a file of another tool's.

    Args:
        name: as the tool has it, with or without folder and ending.
        kind: "base", "refiner", "vae", "lora", "restorer" or "upscaler".
        digest: the first digits of its sha256, where the tool says them. Files of other names are compared as far as theirs
            is known without reading them all.
    """
    plain = _plain(name)
    if plain == EMBEDDED and kind in KINDS:
        return EMBEDDED, ""
    here = [info for info in list_models() if info.usable is not False and info.kind in KINDS.get(kind, (kind,))]
    same_name = [info for info in here if _plain(info.path.name) == plain]
    if not same_name and digest:
        same_name = [info for info in here if _has(info, digest, known_sha256)]
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


def _has(info: ModelInfo, digest: str, sha256: Callable[[Path], str] = file_sha256) -> bool:
    """Whether a file has this digest; a LoRA may be known by that of all behind its header, too."""
    try:
        if not info.path.is_file():
            return False
        digests = [sha256(info.path), *([tensors_sha256(info.path)] if info.kind == "lora" else [])]
        return any(each.startswith(digest.lower()) for each in digests)
    except (WorkbenchError, OSError):  # it is being written
        return False
