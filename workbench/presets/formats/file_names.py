"""Files of ours by the names that ComfyUI, InvokeAI and SwarmUI have for them: never with a folder of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models import RESTORER_FILES, UPSCALER_FILES
from workbench.settings import MOST, Settings, Weighted, parse_weighted, short_name

from .foreign_prompts import clean
from .gathering import Gathering
from .json_values import as_number, take
from .naming import known_file

NETWORKS = {
    "RealESRGAN_x4plus.pth": "realesrgan-x4plus", "RealESRGAN_x4plus_anime_6B.pth": "realesrgan-x4plus-anime-6B",
    "realesr-animevideov3.pth": "realesr-animevideov3",
}  # fmt: skip
"""{file as its author has called it: our name of an upscaler}."""


def without_folders(s: Settings) -> Settings:
    """The same settings, with files by their names alone, as another tool finds them."""
    names: dict[str, object] = {name: short_name(getattr(s, name)) for name in ("model", "vae", "refiner")}
    names |= {name: short_name(getattr(s, name)) for name in ("resampler", "restorer", "upscaler")}
    loras = [Weighted(Weighted(item.file, 0).name, item.weight) for item in parse_weighted("loras", s.loras)]
    return s.replace(**names, loras=", ".join(f"{item.file}:{item.weight!r}" for item in loras))


def file_name(name: str, suffix: str, find: Callable[[str], Any] | None = None) -> str:
    """The name of a file, with its ending; `suffix`: where it is not here to be looked at."""
    try:
        place = find(name) if find else None
    except (WorkbenchError, OSError):
        place = None
    if isinstance(place, Path) and place.is_file():
        return place.name
    return f"{short_name(name)}{suffix}"


def upscaler_name(name: str) -> str:
    theirs = next((file for file, ours in NETWORKS.items() if ours == name), None)
    return theirs or file_name(name, ".pth", UPSCALER_FILES.find)


def restorer_name(name: str) -> str:
    return file_name(name, ".pth", RESTORER_FILES.find)


def read_file_name(name: str, kind: str, digest: str = "") -> tuple[str, str]:
    """As `known_file`, of a name with folder and ending, by which files of ours may be called otherwise."""
    last = clean(name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    if kind == "upscaler":
        ours = next((ours for file, ours in NETWORKS.items() if file.lower() == last.lower()), None)
        if ours or last in NETWORKS.values():
            return ours or last, ""
    if kind == "restorer" and last.lower().startswith("codeformer"):
        return "codeformer", ""
    return known_file(short_name(last), kind, digest) if last else ("", "there is no name of a file.")


def take_file(gathering: Gathering, setting: str, name: object, kind: str, words: str, digest: str = "") -> bool:
    """Set a setting to the file that another tool names."""
    if not isinstance(name, str) or not name.strip():
        gathering.cannot(words, "it is no name of a file")
        return False
    ours, guess = read_file_name(name.strip(), kind, digest)
    return take(gathering, setting, ours, words, guess)


def read_lora(gathering: Gathering, name: object, weight: object, words: str) -> Weighted | None:
    """A LoRA with its weight; None, and told, where it cannot be."""
    number = as_number(1.0 if weight is None else weight)
    if not isinstance(name, str) or not name.strip():
        gathering.cannot(words, "it is no name of a LoRA")
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not -MOST <= number <= MOST:
        gathering.cannot(words, f"its weight must be a number from {-MOST:g} to {MOST:g}")
        return None
    ours, guess = read_file_name(name.strip(), "lora")
    if not ours or any(letter in ours for letter in ',:<>"\n'):
        gathering.cannot(words, "such a name cannot stand in a list of LoRAs")
        return None
    if guess and guess not in gathering.notes:
        gathering.notes.append(guess)
    return Weighted(ours, float(number))


def each_once(gathering: Gathering, loras: list[tuple[Weighted | None, str]]) -> list[Weighted]:
    """LoRAs without those that come twice, which are told, and those that were none or have the weight 0."""
    found: dict[str, Weighted] = {}
    for item, words in loras:
        if item and item.name in found:
            gathering.cannot(words, "it is there twice; the first is kept")
        elif item and item.weight:
            found[item.name] = item
    return list(found.values())
