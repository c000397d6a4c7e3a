"""Prompts between A1111's syntax, which ours is, and those of tools that have only some of it.

A text is sections (a new one behind each BREAK) of parts with weights. ComfyUI and SwarmUI write `(part:1.2)`, InvokeAI
`(part)1.2`; `[part]` is text in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from workbench.recipe import parse_prompt
from workbench.settings import Settings, Weighted, parse_weighted

from .foreign_prompts import TAG, clean
from .gathering import Gathering

Part = tuple[str, float]
Sections = Sequence[Sequence[Part]]

PARENTHESES = re.compile(r"[()]")
BRACKETS = re.compile(r"[\\()\[\]]")
COMFY = re.compile(r"\\[()\\]|:\s*(?P<weight>[+-]?\d*\.?\d+)\s*\)|[()]|[^\\():]+|.", re.DOTALL)
COMPEL = re.compile(
    r"\\[()\\]|\)(?P<closed>[+-]+|\d*\.?\d+)?|\(|(?P<word>[^\s()\\,+-]+)(?P<sign>[+-]+)(?=[\s,.)]|$)|[^()\\\s]+|.",
    re.DOTALL,
)
COMPEL_CALL = re.compile(r"\.(and|blend|swap)\s*\(")
MOST = 10.0
TAMED = (
    (re.compile(r"\bAND\b"), "and"), (re.compile(r"\bBREAK\b"), "break"), (re.compile(r"[{|}]"), " "),
    (re.compile(r"__"), "_"),
)  # fmt: skip


def sections_of(s: Settings, name: str) -> list[list[Part]]:
    """What a prompt of ours says, by the name of its setting."""
    return [
        [(part.text, part.weight) for part in parts]
        for parts in parse_prompt(getattr(s, name), s.prompt_syntax, name).sections
    ]


def loras_of(s: Settings, name: str) -> list[Weighted]:
    """The LoRAs that act beside a prompt of ours: of `loras`, and of its tags."""
    tagged = parse_prompt(getattr(s, name), s.prompt_syntax, name).loras
    return [item for item in (*parse_weighted("loras", s.loras), *tagged) if item.weight]


def has_weights(sections: Sections) -> bool:
    return any(weight != 1 for parts in sections for _, weight in parts)


def comfy_text(parts: Sequence[Part]) -> str:
    """Parts as ComfyUI and SwarmUI read them."""
    return "".join(_escaped(text) if weight == 1 else f"({_escaped(text)}:{_number(weight)})" for text, weight in parts)


def compel_text(parts: Sequence[Part]) -> str:
    """Parts as InvokeAI reads them."""
    return "".join(_escaped(text) if weight == 1 else f"({_escaped(text)}){_number(weight)}" for text, weight in parts)


def _escaped(text: str) -> str:
    return PARENTHESES.sub(r"\\\g<0>", text)


def read_comfy(text: str) -> list[Part]:
    """The parts of a text of ComfyUI's."""
    return _read(text, COMFY, _comfy_factor)


def read_compel(text: str) -> list[Part]:
    """The parts of a text of InvokeAI's: `word+` is 1.1, `word-` 0.9, `(some words)1.3` is 1.3."""
    return _read(text, COMPEL, _compel_factor)


def _comfy_factor(token: re.Match[str]) -> float | None:
    return float(token["weight"]) if token["weight"] is not None else 1.1 if token.group() == ")" else None


def _compel_factor(token: re.Match[str]) -> float | None:
    if not token.group().startswith(")"):
        return None
    said = token["closed"]
    return 1.0 if not said else float(said) if said[0] not in "+-" else _by_signs(said)


def _by_signs(signs: str) -> float:
    power: float = 1.1 ** min(signs.count("+"), 99) * 0.9 ** min(signs.count("-"), 99)
    return power


def _read(text: str, tokens: re.Pattern[str], factor: Callable[[re.Match[str]], float | None]) -> list[Part]:
    parts: list[Part] = []
    opened: list[int] = []
    for token in tokens.finditer(text):
        letter, groups = token.group(), token.groupdict()
        by = factor(token)
        if len(letter) == 2 and letter[0] == "\\":
            parts.append((letter[1], 1.0))
        elif letter == "(":
            opened.append(len(parts))
        elif by is not None and opened:
            start = opened.pop()
            parts[start:] = [(part, max(-MOST, min(MOST, weight * by))) for part, weight in parts[start:]]
        elif groups.get("word"):
            parts.append((groups["word"], _by_signs(groups["sign"])))
        else:
            parts.append((letter, 1.0))
    for start in opened:  # never closed: a letter
        parts.insert(start + opened.index(start), ("(", 1.0))
    return _merged(parts)


def _merged(parts: Sequence[Part]) -> list[Part]:
    merged: list[Part] = []
    for text, weight in parts:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged


def webui_text(sections: Sections) -> str:
    """Sections in our own syntax."""
    return " BREAK ".join(
        "".join(
            _plain_in_webui(text) if weight == 1 else f"({_plain_in_webui(text)}:{_number(weight)})"
            for text, weight in parts
        )
        for parts in sections
    )


def _plain_in_webui(text: str) -> str:
    return BRACKETS.sub(r"\\\g<0>", text)


def _number(weight: float) -> str:
    return (repr(weight) if abs(weight) >= 1e-4 else f"{weight:.20f}").removesuffix(".0")


def take_texts(
    gathering: Gathering, texts: Mapping[str, tuple[Sections, str]], loras: Mapping[str, list[Weighted]] | None = None
) -> None:
    """Set the prompts and the LoRAs.

    Args:
        texts: {setting: (what it says, the words it was read from)}.
        loras: {setting of a prompt: the LoRAs that act beside it}; where they differ they become tags.
    """
    tame = {
        name: [[(clean(text), weight) for text, weight in parts] for parts in said] for name, (said, _) in texts.items()
    }
    found = {name: webui_text(said) for name, said in tame.items()}
    odd = [name for name in found if not _same(found[name], tame[name], name)]
    simple = all(len(said) == 1 and not has_weights(said) for said in tame.values())
    lists = [] if loras is None else list(loras.values())
    together = all(each == lists[0] for each in lists)
    if odd and simple and together:
        found = {name: "".join(text for parts in said for text, _ in parts) for name, said in tame.items()}
        gathering.values["prompt_syntax"] = "plain"
        gathering.guessed["prompt_syntax"] = (
            f"{odd[0]} has words that would be syntax here, so prompts are plain text, of which 75 tokens are read."
        )
    elif odd:
        found |= {name: _tamed(gathering, name, tame[name]) for name in odd}
    for name, (_, words) in texts.items():
        text, tags = found[name], "" if together or not loras else _tags(loras.get(name, []))
        gathering.take(name, text + tags, words)
    if lists and together and lists[0]:
        gathering.take("loras", ", ".join(f"{item.file}:{item.weight:.16g}" for item in lists[0]), "LoRAs")


def _tags(loras: Sequence[Weighted]) -> str:
    return "".join(f" <lora:{item.name}:{item.weight:.16g}>" for item in loras)


def _same(text: str, wanted: Sections, name: str) -> bool:
    """Whether our own reading of a text finds in it what is wanted."""
    try:
        read = parse_prompt(text, "webui", name)
    except ValueError:
        return False
    return not read.loras and _bare(read.sections) == _bare(wanted)


def _bare(sections: Sections) -> list[list[Part]]:
    trimmed = [_merged([(text.strip(), weight) for text, weight in parts if text.strip()]) for parts in sections]
    return [parts for parts in trimmed if parts]


def _tamed(gathering: Gathering, name: str, said: Sections) -> str:
    """The text without what our syntax would act on."""
    gathering.guessed[name] = "it has words or signs that would be syntax here; they are written otherwise."

    def tame(text: str) -> str:
        text = TAG.sub("", text)
        for pattern, instead in TAMED:
            text = pattern.sub(instead, text)
        return text.replace("<", " ")

    return webui_text([[(tame(text), weight) for text, weight in parts] for parts in said])
