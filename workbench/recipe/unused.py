"""Which settings do nothing: found by trying other values of each, so that no stage has to declare it."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.errors import SettingsError, WorkbenchError
from workbench.settings import Knob, Settings, Value, knobs, stages

from .keys import keys_without_weights


def unused_settings(s: Settings) -> dict[str, str]:
    """{a setting that changes no pixel, whatever its value, as long as the others stay: why}; 0.1 s, loads no model."""
    keys = keys_without_weights(s)
    return {name: _why(knob, s) for name, knob in knobs().items() if not _acts(knob, s, keys)}


def _acts(knob: Knob, s: Settings, keys: dict[str, str]) -> bool:
    tried = False
    for value in _others(knob, getattr(s, knob.name)):
        try:
            other = s.replace(**{knob.name: value})
        except SettingsError:  # these do not go together
            continue
        tried = True
        try:
            if keys_without_weights(other) != keys:
                return True
        except WorkbenchError:  # it looks for a file of that name
            return True
    return not tried


def _others(knob: Knob, now: Value) -> Iterator[Value]:
    """Other values, so far apart that rounding does not make them the same: 0.36 and 0.37 of 25 steps are both 9."""
    if knob.kind == "bool":
        yield not now
    elif knob.kind == "text":
        yield from (word for word in knob.named if word != now)
        yield f"{now} x"
    elif knob.kind == "choice":
        yield from (choice for choice in knob.choices if choice != now)
    else:
        kind = int if knob.kind == "int" else float
        ends = dict.fromkeys(kind(end) for end in (*knob.useful, knob.minimum, knob.maximum) if end is not None)
        yield from (end for end in ends if end != now)


def _why(knob: Knob, s: Settings) -> str:
    stage = stages()[knob.stage]
    if stage.name not in s.stages:
        return f"{stage.title} is off"
    said = stage.idle(s).get(knob.name) or stage.why_equal(knob.name, getattr(s, knob.name), s).strip(" ()")
    return said or "the other settings leave it nothing to do"
