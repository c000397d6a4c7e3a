"""Under which licence a model comes: from its metadata or a file beside it, else nobody here knows."""

from __future__ import annotations

import re
from pathlib import Path

from workbench.errors import CorruptWeights

from .finding import EMBEDDED, ONE_FILE
from .headers import read_header
from .parts import read_optional

LICENCES = {
    "codeformer": "CodeFormer: S-Lab License 1.0, non-commercial use only",
    "gfpgan": "GFPGAN: Apache-2.0, with third-party parts for research and non-commercial use only",
    "restoreformer": "RestoreFormer: Apache-2.0",
    "realesrgan": "Real-ESRGAN: BSD-3-Clause",
    "sdxl": "SDXL 1.0 base and refiner: CreativeML Open RAIL++-M",
    "embedded": "embedded model: Apache-2.0, trained here on two public-domain portraits",
}
UNKNOWN = "ask whoever published it"
NOT_SERVED = "must not be put behind a service"
TEXT_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "LICENCE.md", "LICENCE.txt")
BESIDE = (".license", ".license.txt", ".licence", ".licence.txt")  # face.licence.txt beside face.safetensors
CIVITAI = (".civitai.info", ".json")  # what Civitai's helpers write beside a file
FORBIDS = re.compile(
    r"cc[-_ ]by[-_ ]nc|non[- ]?commercial|(not|no|n't)\b[^.]{0,60}\b(behind|api|apis|generation services?|hosting)\b",
    re.I,
)
JUGGERNAUT = re.compile(r"jugg(ernaut)?[\W_]*(xl)?[\W_]*v?[\W_]*(xi(by|[^a-z]|$)|11(\D|$))", re.I)


def licence_of(name: str, path: Path | None) -> str:
    """The licence of a model or VAE in words, "name: licence"; where it forbids serving, that is said.

    `path`: its file or folder; None where it is not on this machine.
    """
    if name in ("embedded", str(EMBEDDED)):
        return LICENCES["embedded"]
    found = "" if path is None else (_of_file(path) if path.is_file() else _of_folder(path)).strip()
    if not found and name == "sdxl":
        return LICENCES["sdxl"]
    about = f"{name} {path.name if path else ''} {found}"
    if path and name.startswith(("/", ".", "~")):
        name = path.name
    return f"{name}: {found or UNKNOWN}{_not_served(about, found)}"


def _not_served(about: str, found: str) -> str:
    if JUGGERNAUT.search(about):
        return f"; {NOT_SERVED} (Juggernaut XI: not permitted behind API services)"
    return f"; {NOT_SERVED} without its publisher's leave" if FORBIDS.search(found) else ""


def _of_file(path: Path) -> str:
    for ending in BESIDE:
        if text := _first_lines(path.with_suffix(ending)):
            return text
    for ending in CIVITAI:
        if text := _civitai(path.with_suffix(ending)):
            return text
    try:
        about = read_header(path).metadata if path.suffix == ONE_FILE else {}
    except CorruptWeights:
        return ""
    title = about.get("modelspec.title", "")
    said = about.get("modelspec.license", "") or about.get("license", "")
    return f"{said} ({title})" if said and title else said


def _of_folder(path: Path) -> str:
    for folder in (path, path / "base"):
        if text := _front_matter(folder / "README.md"):
            return text
        for name in TEXT_FILES:
            if text := _first_lines(folder / name):
                return text
    files = sorted(path.glob("*" + ONE_FILE))
    return _of_file(files[0]) if len(files) == 1 else ""


def _first_lines(path: Path) -> str:
    """The first line with words, of a text file that is short or a licence's title; "" where there is none."""
    text = _text(path)
    return next((line.strip(" #*\t")[:200] for line in text.splitlines() if line.strip(" #*-=\t")), "")


def _front_matter(path: Path) -> str:
    """`license:` (and `license_name:`) in the YAML at the head of a hub's model card."""
    head = _text(path).partition("---\n")[2].partition("\n---")[0]
    found = dict(re.findall(r"^(license(?:_name)?)\s*:\s*['\"]?([^'\"\n]+)", head, re.M))
    return found.get("license_name") or found.get("license", "")


def _civitai(path: Path) -> str:
    """The uses that the author allows on Civitai; "RentCivit" and "Rent" are generation services."""
    try:
        about = read_optional(path)
    except CorruptWeights:
        return ""
    model = about.get("model") if isinstance(about.get("model"), dict) else about
    allowed = model.get("allowCommercialUse") if isinstance(model, dict) else None
    if isinstance(allowed, str):
        allowed = re.findall(r"\w+", allowed)
    if not isinstance(allowed, list):
        return ""
    uses = [str(use) for use in allowed if str(use) != "None"]
    if not uses:
        return "Civitai: non-commercial use only"
    rent = any(use.startswith("Rent") for use in uses)
    return f"Civitai: commercial use allowed for {', '.join(uses)}" + ("" if rent else ", not for generation services")


def _text(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(100_000)
    except OSError:
        return ""
