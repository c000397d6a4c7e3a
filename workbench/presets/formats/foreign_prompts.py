"""Prompts of other tools in A1111's syntax: what is read here stays, tags of LoRAs become `loras`, the rest is told."""

from __future__ import annotations

import re
from collections.abc import Mapping

from workbench.errors import SettingsError
from workbench.recipe import parse_prompt
from workbench.settings import Weighted, check_text, number_text, parse_weight

from .gathering import Gathering
from .naming import known_file

TAG = re.compile(r"<(\w+):([^<>]*)>")
LAST_TAGS = re.compile(r"(?:\s*<lora:[^<>]*>)+\s*\Z")
NUMBER = r"\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*"
UNREAD = (  # (what the workbench does not read, what is read in its place, what it is)
    (re.compile(r"\bAND\b"), r"and", "AND blends several prompts"),
    (re.compile(r"\[([^\[\]:|]*)\|[^\[\]]*\]"), r"\1", "[a|b] alternates words"),
    (re.compile(rf"\[([^\[\]:|]*)::{NUMBER}\]"), r"\1", "[a::when] edits the prompt as it goes"),
    (re.compile(rf"\[(?:[^\[\]:|]*:)?([^\[\]:|]*):{NUMBER}\]"), r"\1", "[a:b:when] edits the prompt as it goes"),
    (re.compile(r"\{([^{}|]*)\|[^{}]*\}"), r"\1", "{a|b} draws a word"),
    (re.compile(r"(?<!\w)__([\w/*-]+?)__(?!\w)"), r"\1", "__name__ draws a line of a file"),
)
Hashes = Mapping[str, str]
"""{name of a LoRA: first digits of its sha256}."""


def take_prompts(gathering: Gathering, texts: Mapping[str, tuple[str, str]], hashes: Hashes | None = None) -> None:
    """Set the prompts, and `loras` of their tags.

    Args:
        texts: {setting: (text, the words it was read from)}.
        hashes: of LoRAs, where the tool has them.
    """
    tame = {name: _tamed(gathering, name, text, hashes or {}) for name, (text, _) in texts.items()}
    readable = all(_readable(gathering, name, text) for name, text in tame.items())
    if not readable:
        gathering.values["prompt_syntax"] = "plain"
    loras = _loras_of(tame, all_of_them=not readable)
    for name, (_, words) in texts.items():
        text = tame[name] if loras is None else _without_tags(tame[name], last=readable)
        gathering.take(name, text, words)
    if loras:
        gathering.take(
            "loras", ", ".join(f"{item.file}:{number_text(item.weight)}" for item in loras), "LoRA tags of the prompt"
        )


def _tamed(gathering: Gathering, name: str, text: str, hashes: Hashes) -> str:
    """A prompt without what the workbench does not read; each loss is told."""
    seen: set[str] = set()

    def tag(found: re.Match[str]) -> str:
        kept, why = _tag(found[1].lower(), found[2], hashes, gathering)
        if kept and "negative" in name:
            kept, why = None, "a negative prompt has no LoRAs: A1111 does not apply them there, either"
        if kept and kept.name in seen:
            kept, why = None, "the prompt has it twice; the first is kept"
        if why:
            gathering.cannot(f"{name}: {found[0]}", why)
        if kept is None:
            return ""
        seen.add(kept.name)
        return f"<lora:{kept.file}:{number_text(kept.weight)}>"

    text = TAG.sub(tag, text)
    for pattern, instead, what in UNREAD:
        if found := pattern.search(text):
            gathering.guessed[name] = f"{what}, which the workbench does not: '{found[0][:60]}' is read otherwise."
            text = pattern.sub(instead, text)
    return text


def _tag(kind: str, inside: str, hashes: Hashes, gathering: Gathering) -> tuple[Weighted | None, str]:
    """(the LoRA of a tag or None, what of it is not as it was)."""
    if kind not in ("lora", "lyco"):
        return None, f"the workbench has no '{kind}'"
    file, *weights = inside.split(":")
    plain = file.replace("\\", "/").rpartition("/")[2].strip()
    if not plain or "," in plain:
        return None, "it is no name of a LoRA"
    try:
        weight = parse_weight("a LoRA", weights[0]) if weights else 1.0
    except ValueError as error:
        return None, f"{error}."
    found, guess = known_file(plain, "lora", hashes.get(plain, ""))
    if guess and guess not in gathering.notes:
        gathering.notes.append(guess)
    other = weights[1:] and any(each.strip() != weights[0].strip() for each in weights[1:])
    return Weighted(found, weight), "one weight counts for the UNet and the text encoders: the first" if other else ""


def _readable(gathering: Gathering, name: str, text: str) -> bool:
    try:
        parse_prompt(text, "webui", name)
    except ValueError as error:
        gathering.guessed["prompt_syntax"] = f"prompts are read as plain text: {error}."
        return False
    return True


def _loras_of(texts: Mapping[str, str], *, all_of_them: bool) -> list[Weighted] | None:
    """The LoRAs that act in all passes: the last tags of the prompt, unless another prompt has others; else None."""
    positive = {
        name: text for name, text in texts.items() if "negative" not in name and (text.strip() or name == "prompt")
    }
    found = {name: _tags(text if all_of_them else _last(text)) for name, text in positive.items()}
    first = found.get("prompt", [])
    if all_of_them:
        return list({item.name: item for items in found.values() for item in items}.values())
    elsewhere = {item.name for text in positive.values() for item in _tags(_without_tags(text, last=True))}
    together = all(items == first for items in found.values()) and not elsewhere & {item.name for item in first}
    return first if together else None


def _tags(text: str) -> list[Weighted]:
    pairs = [inside.rpartition(":") for _, inside in TAG.findall(text)]
    return [Weighted(file, float(weight)) for file, _, weight in pairs]


def _last(text: str) -> str:
    found = LAST_TAGS.search(text)
    return found[0] if found else ""


def _without_tags(text: str, *, last: bool) -> str:
    return LAST_TAGS.sub("", text) if last else TAG.sub("", text)


def clean(text: str) -> str:
    """A text that settings can hold: what is no UTF-8 in it, and NUL, taken out."""
    try:
        check_text("text", text)
    except SettingsError:
        return text.encode("utf-8", "ignore").decode().replace("\0", "")
    return text
