"""Values as Python in a script that people read: black's quotes and line breaks."""

from __future__ import annotations

import json
import re

LINE = 88


def python(value: object, indent: str = "") -> str:
    """A value made of dicts, lists, tuples, texts and numbers; `indent`: of the line on which it begins."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list | tuple):
        return repr(value)
    opening, closing = {dict: "{}", list: "[]", tuple: "()"}[type(value)]
    inner = indent + "    "
    if isinstance(value, dict):
        parts = [(f"{python(name)}: ", each) for name, each in value.items()]
    else:
        parts = [("", each) for each in value]
    short = opening + ", ".join(name + python(each) for name, each in parts) + closing
    if "\n" not in short and len(indent) + len(short) <= LINE - 18:
        return short
    lines = [f"{inner}{name}{_part(each, inner, name)},\n" for name, each in parts]
    return f"{opening}\n{''.join(lines)}{indent}{closing}"


def _part(value: object, indent: str, before: str) -> str:
    if isinstance(value, str) and len(indent) + len(before) + len(python(value)) >= LINE:
        return python_words(value, indent)
    return python(value, indent)


def python_words(text: str, indent: str = "") -> str:
    """A text, over several lines where it is long."""
    if len(python(text)) <= LINE - len(indent) - 18:
        return python(text)
    lines = [""]
    for word in re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", text):
        if len(python(lines[-1] + word)) > LINE - len(indent) - 4 and lines[-1]:
            lines.append("")
        lines[-1] += word
    # blanks stand at the end of a line, where they are looked for
    for n in range(len(lines) - 1):
        bare = lines[n + 1].lstrip(" ")
        lines[n], lines[n + 1] = lines[n] + lines[n + 1][: len(lines[n + 1]) - len(bare)], bare
    inner = indent + "    "
    return "(\n" + "".join(f"{inner}{python(line)}\n" for line in lines) + f"{indent})"
