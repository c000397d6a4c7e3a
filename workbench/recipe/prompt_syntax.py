"""A1111's prompt syntax: emphasis, BREAK and LoRA tags. Reads a prompt into parts with weights; knows no tokens.

As in A1111's own `parse_prompt_attention`: `(word)` is 1.1, `(word:1.3)` is 1.3, `[word]` is 1 / 1.1, all of them multiply
where they are nested, a backslash makes a bracket a letter, and what is never closed reaches to the end. What A1111 and its
extensions do beyond that, and this does not, is refused by name: left in the text it would be read as words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from workbench.settings import Weighted, parse_weight

PromptSyntax = Literal["webui", "plain"]

ROUND, SQUARE = 1.1, 1 / 1.1
PLAIN_REMEDY = "or set prompt_syntax = plain, which reads every character as text"
TAG = re.compile(r"<(\w+):([^<>]*)>")
HALF_TAG = re.compile(r"<\s*(lora|lyco|hypernet)\s*:", re.IGNORECASE)
TOKEN = re.compile(r"\\[\\()\[\]]|:\s*(?P<weight>[+-]?[\d.]+)\s*\)|[()\[\]]|[^\\()\[\]:]+|.", re.DOTALL)
BREAK = re.compile(r"\s*\bBREAK\b\s*")
OTHERS = (  # (what it looks like, what it is, what to do instead)
    (re.compile(r"\bAND\b"), "AND, which blends several prompts", "write 'and', or describe both in one prompt"),
    (re.compile(r"\{[^{}]*\|[^{}]*\}"), "{a|b}, a choice of the Dynamic Prompts extension", "list the prompts one by one"),
    (re.compile(r"(?<!\w)__[\w/*-]+?__(?!\w)"), "a __wildcard__", "list the prompts one by one"),
)  # fmt: skip


class PromptPart(NamedTuple):
    """A piece of a prompt and its weight."""

    text: str
    weight: float


@dataclass(frozen=True)
class ParsedPrompt:
    """What a prompt says.

    Attributes:
        sections: parts, a new list behind each BREAK; at least one list.
        loras: of its tags, in their order.
        notes: sentences on what is probably not as it was meant.
    """

    sections: tuple[tuple[PromptPart, ...], ...]
    loras: tuple[Weighted, ...] = ()
    notes: tuple[str, ...] = ()


def syntax_in(text: str) -> str:
    """What of a plain text would be syntax, for a note; "" where nothing would."""
    found = re.search(r"\([^()]*:\s*[+-]?[\d.]+\s*\)|<(lora|lyco):[^<>]*>|\bBREAK\b|\(\([^()]+\)\)", text)
    return found.group()[:40] if found else ""


@lru_cache(maxsize=4096)
def parse_prompt(text: str, syntax: PromptSyntax = "webui", name: str = "prompt") -> ParsedPrompt:
    """A prompt in parts. With the syntax "plain" it is one part, whatever stands in it.

    `name`: of the setting. Raises `ValueError`, in a sentence, for what is refused.
    """
    if syntax == "plain":
        return ParsedPrompt(((PromptPart(text, 1.0),),))
    loras = tuple(_lora(name, *tag) for tag in TAG.findall(text))
    words = [lora.name for lora in loras]
    if twice := next((word for word in words if words.count(word) > 1), None):
        raise ValueError(f"{name} has two tags <lora:{twice}:…>; keep one")
    text = TAG.sub("", text)
    if half := HALF_TAG.search(text):
        raise ValueError(
            f"{name} has '{_near(text, half.start())}', which is no whole tag; write <lora:name:weight>, {PLAIN_REMEDY}"
        )
    _check_others(name, text)
    _check_square(name, text)
    parts, notes = _emphasised(name, text)
    return ParsedPrompt(_sections(parts), loras, tuple(notes))


def _lora(name: str, kind: str, inside: str) -> Weighted:
    """The LoRA of a tag. Raises `ValueError` for other tags."""
    tag = f"<{kind}:{inside}>"
    if kind not in ("lora", "lyco"):
        raise ValueError(
            f"{name} has the tag {tag}, and '{kind}' is none that the workbench applies (<lora:name:weight> is); take it "
            f"out, {PLAIN_REMEDY}"
        )
    file, *weights = inside.split(":")
    if not file.strip() or len(weights) > 1:
        raise ValueError(
            f"{name} has the tag {tag}; write <lora:name:weight> with one weight, which counts for the UNet and the text "
            "encoders"
        )
    if "/" in file or file.strip().startswith(("~", ".")):
        raise ValueError(
            f"{name} has the tag {tag}; a tag takes the name of a LoRA, a path goes into the setting loras"
        )
    return Weighted(file.strip(), parse_weight(f"{name}: the tag {tag}", weights[0]) if weights else 1.0)


def _check_others(name: str, text: str) -> None:
    for pattern, what, instead in OTHERS:
        if found := pattern.search(text):
            raise ValueError(
                f"{name} has '{_near(text, found.start())}': {what}, is not supported; {instead}, {PLAIN_REMEDY}"
            )


def _check_square(name: str, text: str) -> None:
    """Refuse prompt editing `[from:to:when]` and alternation `[a|b]`, which would else be read as de-emphasis."""
    opened: list[tuple[str, int, str]] = []  # (bracket, its place, what stands directly in it: a group is one space)
    for token in re.finditer(r"\\.|[()\[\]]|[^\\()\[\]]+|\\", text, re.DOTALL):
        letter = token.group()
        if letter in ("(", "["):
            opened.append((letter, token.start(), ""))
        elif letter in (")", "]"):
            if not opened or "([".index(opened[-1][0]) != ")]".index(letter):
                continue
            bracket, place, inside = opened.pop()
            if bracket == "[":
                _check_inside(name, text[place : token.end()], inside)
            if opened:
                opened[-1] = (*opened[-1][:2], opened[-1][2] + " ")
        elif opened and not letter.startswith("\\"):
            opened[-1] = (*opened[-1][:2], opened[-1][2] + letter)


def _check_inside(name: str, whole: str, inside: str) -> None:
    what = (
        "alternating words, [a|b]," if "|" in inside
        else "prompt editing, [from:to:when]," if re.search(r":\s*[+-]?(\d+\.?\d*|\.\d+)\s*$", inside)
        else ""
    )  # fmt: skip
    if what:
        raise ValueError(
            f"{name} has '{whole[:60]}': {what} is not supported; keep one of the two, write \\[ and \\] for brackets as "
            f"letters, {PLAIN_REMEDY}"
        )


def _emphasised(name: str, text: str) -> tuple[list[PromptPart], list[str]]:
    """The text in pieces, each with the product of the weights of the brackets around it."""
    pieces: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {
        "(": [],
        "[": [],
    }  # for each kind of bracket, the pieces before which one was opened

    def multiply(start: int, factor: float) -> None:
        pieces[start:] = [(piece, weight * factor) for piece, weight in pieces[start:]]

    for token in TOKEN.finditer(text):
        letter, weight = token.group(), token["weight"]
        if len(letter) == 2 and letter[0] == "\\":
            pieces.append((letter[1], 1.0))
        elif letter in opened:
            opened[letter].append(len(pieces))
        elif weight is not None and opened["("]:
            multiply(opened["("].pop(), parse_weight(f"{name}: '{_near(text, token.start())}'", weight))
        elif letter == ")" and opened["("]:
            multiply(opened["("].pop(), ROUND)
        elif letter == "]" and opened["["]:
            multiply(opened["["].pop(), SQUARE)
        else:
            pieces.append((letter, 1.0))
    notes = []
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        if opened[bracket]:
            notes.append(f"{name}: a '{bracket}' is never closed, so its weight reaches to the end")
        for start in opened[bracket]:
            multiply(start, factor)
    return [PromptPart(piece, weight) for piece, weight in pieces], notes


def _sections(parts: list[PromptPart]) -> tuple[tuple[PromptPart, ...], ...]:
    """Divided at BREAK; neighbours of equal weight are one part, as a plain prompt is, whose words must not be torn apart."""
    merged: list[PromptPart] = []
    for part in parts:
        if merged and merged[-1].weight == part.weight:
            merged[-1] = PromptPart(merged[-1].text + part.text, part.weight)
        else:
            merged.append(part)
    sections: list[list[PromptPart]] = [[]]
    for part in merged:
        for number, piece in enumerate(BREAK.split(part.text)):
            if number:
                sections.append([])
            if piece:
                sections[-1].append(PromptPart(piece, part.weight))
    return tuple(tuple(section) for section in sections)


def _near(text: str, place: int) -> str:
    return text[max(0, place - 15) : place + 25].strip()
