"""By which hashes A1111 and Civitai know the files that make a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.models import file_digest, lora_path, tensors_sha256, vae_path
from workbench.settings import parse_weighted, short_name

from .prompt_syntax import parse_prompt

if TYPE_CHECKING:
    from workbench.settings import Settings

SHORT = 10  # digits of a sha256 that name a checkpoint
SHORT_LORA = 12  # of the one behind the header, which names a LoRA


def known_by(what: str, name: str, find: Callable[[str], Path | None], *, ending: bool = False) -> dict[str, object]:
    """A1111's two fields of a file: its name, and before it its hash, which a folder has none of.

    Args:
        name: as the setting has it, by which `find` finds it.
        ending: whether its name has the file's, as A1111's VAEs have.
    """
    digest = file_digest(name, find)
    place = find(name) if digest and ending else None
    fields: dict[str, object] = {f"{what} hash": digest[:SHORT]} if digest else {}
    return fields | {what: place.name if place else short_name(name)}


def lora_hashes(s: Settings) -> dict[str, object]:
    """A1111's field of the LoRAs whose files are here, and Civitai's of all files."""
    items = [*parse_weighted("loras", s.loras), *parse_prompt(s.prompt, s.prompt_syntax).loras]
    found, whole = dict[str, str](), {"model": file_digest(s.model), "vae": file_digest(s.vae, vae_path)}
    for item in items:
        if not item.weight:
            continue
        whole[f"lora:{item.name}"] = file_digest(item.file, lora_path)
        try:
            found[item.name] = tensors_sha256(lora_path(item.file))[:SHORT_LORA]
        except (WorkbenchError, OSError):  # its file is on another machine
            continue
    named = ", ".join(f"{name}: {digest}" for name, digest in found.items())
    listed: dict[str, object] = {"Lora hashes": named} if named else {}
    hashes = {name: digest[:SHORT] for name, digest in whole.items() if digest}
    return listed | ({"Hashes": hashes} if hashes else {})
