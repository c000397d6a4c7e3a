"""A1111's and Forge's `styles.csv`: prompts with names, which are chosen there beside a prompt of one's own."""

from __future__ import annotations

import csv
import io

from workbench.errors import NotUnderstood
from workbench.settings import Settings, knobs, stages, webui_prompt

from .exchange import ExchangeFormat, Exported, Imported
from .foreign_prompts import clean, take_prompts
from .gathering import Gathering

HEADER = ["name", "prompt", "negative_prompt"]
HELD = "{prompt}"  # where the prompt stands that a style is chosen beside; else that stands before it
BOM = "\ufeff"  # with which A1111 writes the file, so that spreadsheets take it for UTF-8
NO_PLACE = "a style is a prompt and a negative prompt"


class Styles(ExchangeFormat):
    name, title, suffix = "styles", "A1111 styles.csv", ".csv"

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        """One row, to be appended to those that are there."""
        prompt, negative = (
            webui_prompt(s.prompt, s.prompt_syntax, s.loras),
            webui_prompt(s.negative_prompt, s.prompt_syntax),
        )
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([HEADER, [name, prompt, negative]])
        said = {"prompt", "negative_prompt", "prompt_syntax", "loras"}
        acting = [each for each in stages() if each in s.stages]
        others = [each for each, knob in knobs().items() if knob.stage in acting and each not in said]
        notes = ("A style has the prompts alone; export a1111 has the other settings, too.",)
        return Exported(BOM + text.getvalue(), dict.fromkeys(others, NO_PLACE), notes)

    def recognises(self, text: str) -> bool:
        return text.removeprefix(BOM).lstrip().lower().startswith("name,prompt")

    def read(self, text: str) -> Imported:
        """The first style; the names of the others are told, too."""
        rows = _rows(clean(text.removeprefix(BOM)))
        row, *others = rows
        name = row["name"].strip() or "(no name)"
        gathering = Gathering({"negative_prompt": ""})
        prompt = row["prompt"]
        if HELD in prompt:
            gathering.guessed["prompt"] = f"'{HELD}' holds the place of a prompt of one's own; there is none here."
            prompt = ", ".join(part for each in prompt.split(HELD) if (part := each.strip().strip(",").strip()))
        texts = {"prompt": (prompt, f"style {name}"), "negative_prompt": (row["negative_prompt"], f"style {name}")}
        take_prompts(gathering, texts)
        for other in others:
            gathering.cannot(
                f"style {other['name']}", "one style is read, the first; leave the others out to read this one"
            )
        return gathering.finish("A1111")


def _rows(text: str) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(text), restval="", strict=False)
        names = [str(name).strip().lower() for name in reader.fieldnames or []]
        rows = [{name: str(value or "") for name, value in zip(names, row.values(), strict=False)} for row in reader]
    except csv.Error as error:
        raise NotUnderstood(
            f"the styles are no CSV ({error}); give a file with the columns {', '.join(HEADER)}."
        ) from None
    if "prompt" not in names:
        raise NotUnderstood(f"the styles have no column 'prompt'; give a file with the columns {', '.join(HEADER)}.")
    found = [{name: row.get(name, "") for name in HEADER} for row in rows]
    kept = [
        row for row in found if row["prompt"].strip() or row["negative_prompt"].strip()
    ]  # others are headings there
    if not kept:
        raise NotUnderstood("the styles have no row with a prompt.")
    return kept
