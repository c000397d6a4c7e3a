"""A setting as a stage declares it, and as sliders, axes and checks need to know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from .values import Value


@dataclass(frozen=True)
class Knob:
    """What a slider, a sweep axis or a parameter check needs to know about one setting.

    Attributes:
        stage: the one that declares it: the first in which the setting acts.
        label, help: its name and what it does, for people.
        minimum, maximum: the allowed range; None where there is no limit.
        step: of a slider.
        soft: the range of use, in which a slider moves; None: all that is allowed.
        choices: the allowed values of a choice, else ().
        why: the reason of its limits, where they need one.
        before: what files mean that were written before there was this setting; None: it was there from the first.
        aliases: (another name of a choice, in lower case; the choice).
        empty: what an empty text means.
        named: the words that a text may be, beside names of files.
        files: the kind of the files that it may name, "restorer" or "upscaler"; "" where it names none of them.
        items: "lora" of a list of names with weights, where "lora:detail" sets the weight of `detail` in it; else "".
    """

    name: str
    kind: Literal["text", "int", "float", "bool", "choice"]
    default: Value
    stage: str
    label: str
    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    why: str = ""
    before: Value | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    items: str = ""
    empty: str = ""
    named: tuple[str, ...] = ()
    files: str = ""
    soft: tuple[float, float] | None = None

    @property
    def useful(self) -> tuple[float, float]:
        """The range of a slider: what is of use of the allowed one, which may be far longer."""
        return self.soft or (self.minimum or 0.0, self.maximum or 0.0)

    @property
    def allowed(self) -> str:
        """The allowed values in words, for error messages and tooltips."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            low, high = (f"{n:.16g}" for n in (self.minimum, self.maximum))
            return f"{self.kind} from {low} to {high}{self.why and f' ({self.why})'}"
        if self.named:
            return f"{', '.join(self.named)}, or a file"
        return {"bool": "true or false"}.get(self.kind, self.kind)


def setting(
    default: Value, label: str, about: str, *, unit: str = "", step: float | None = None, short: str = "", why: str = "",
    before: Value | None = None, aliases: Mapping[str, str] | None = None, items: str = "", empty: str = "",
    named: Sequence[str] = (), files: str = "", soft: tuple[float, float] | None = None, **limits: Any
) -> Any:  # fmt: skip
    """A setting as a stage declares it: `strength: float = setting(0.35, "Strength", "Denoising strength ...", step=0.05)`.

    Args:
        label, about: its name and what it does, for people.
        unit: of its numbers.
        step: of a slider.
        short: a shorter name by which several settings are set together, as `cfg` sets `base_cfg` and `refine_cfg`.
        why: the reason of its limits, where they need one.
        before: what files mean that were written before there was this setting; runs are named without it where it is that.
        aliases, items, empty, named, files, soft: see `Knob`.
        limits: what pydantic allows in a field: `ge`, `gt`, `le`, `multiple_of`, `min_length`, `allow_inf_nan`.
    """
    extra = {"unit": unit, "step": step, "short": short, "why": why, "before": before, "items": items, "empty": empty}
    extra |= {"aliases": tuple((aliases or {}).items()), "named": tuple(named), "files": files, "soft": soft}
    return Field(default, title=label, description=about, json_schema_extra=extra, **limits)
