"""The control of one setting, by the kind of its values, made from its `Knob`."""

from __future__ import annotations

import math
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from workbench.models import BASES, RESTORER_FILES, UPSCALER_FILES, list_models
from workbench.settings import Knob, Value

from .scripts import script, style

MOST_STEPS = 200  # of a slider: a longer one cannot be set to a value by hand, and is left out
LABEL = "112px"
LINE = 52  # letters of a prompt in a line of its box


class NumberField(anywidget.AnyWidget):
    """A number: a slider over the values that are of use, and a box that takes every value that is allowed, as it is typed.

    What is out of range is said below it and changes nothing.

    Attributes:
        value: the number; an int where `whole`.
        low, high, step: of the slider; `slider`: whether there is one.
        minimum, maximum: what may be typed.
        description: its label.
    """

    _esm = script("number")
    _css = style("number")
    value = traitlets.Union([traitlets.Int(), traitlets.Float()]).tag(sync=True)
    description = traitlets.Unicode("").tag(sync=True)
    whole = traitlets.Bool(False).tag(sync=True)
    slider = traitlets.Bool(True).tag(sync=True)
    low = traitlets.Float(0).tag(sync=True)
    high = traitlets.Float(1).tag(sync=True)
    step = traitlets.Float(1).tag(sync=True)
    minimum = traitlets.Float(0).tag(sync=True)
    maximum = traitlets.Float(1).tag(sync=True)

    @traitlets.validate("value")
    def _in_its_type(self, proposal: traitlets.Bunch) -> int | float:
        """JavaScript has one kind of numbers: 7.0 comes as 7."""
        value = proposal["value"]
        if not math.isfinite(value) or (self.whole and value != int(value)):
            raise traitlets.TraitError(f"{self.description}: {value} is no {'whole ' * self.whole}number.")
        return int(value) if self.whole else float(value)


class Picker(anywidget.AnyWidget):
    """A text that names a file: typed, or picked from what is on this machine.

    Attributes:
        value: the text.
        options: what is on offer.
        listed: whether it is a list of names with weights, to which a pick is added.
        description, placeholder: its label, and what an empty text means.
    """

    _esm = script("picker")
    _css = style("picker")
    value: Any = traitlets.Unicode("").tag(sync=True)
    options = traitlets.List([]).tag(sync=True)
    listed = traitlets.Bool(False).tag(sync=True)
    description = traitlets.Unicode("").tag(sync=True)
    placeholder = traitlets.Unicode("").tag(sync=True)


Field = widgets.ValueWidget | NumberField | Picker


def field_of(knob: Knob, value: Value) -> Field:
    """The control of a setting, set to `value`."""
    unit = {"": "", "steps": "", "x": " (×)"}.get(knob.unit, f" ({knob.unit})")
    label, tooltip = knob.label + unit, f"{knob.help} Allowed: {knob.allowed}."
    if knob.kind in ("int", "float"):
        return _number(knob, value, description=label, tooltip=tooltip)
    about: dict[str, object] = {
        "value": value, "description": label, "tooltip": tooltip, "style": {"description_width": LABEL},
        "layout": {"width": "auto", "flex": "1 1 auto", "min_width": "0"},
    }  # fmt: skip
    if knob.kind == "choice":
        return widgets.Dropdown(options=knob.choices, **about)
    if knob.kind == "bool":
        return widgets.Checkbox(**{**about, "indent": False})
    if knob.files or knob.items:
        return Picker(
            value=str(value), description=label, tooltip=tooltip, placeholder=knob.empty, options=words_of(knob),
            listed=bool(knob.items)
        )  # fmt: skip
    if "prompt" in knob.name:
        rows = min(8, max(2, math.ceil(len(str(value)) / LINE)))
        field = widgets.Textarea(rows=rows, continuous_update=False, placeholder=knob.empty, **about)
        field.add_class("wb-prompt")
        return field
    return widgets.Text(continuous_update=False, placeholder=knob.empty, **about)


def _number(knob: Knob, value: Value, **about: str) -> NumberField:
    low, high = knob.useful
    field = NumberField(
        whole=knob.kind == "int", low=low, high=high, step=knob.step or 1, minimum=knob.minimum, maximum=knob.maximum,
        slider=(high - low) / (knob.step or 1) <= MOST_STEPS, **about
    )  # fmt: skip
    field.value = value  # once it knows whether it is whole
    return field


def words_of(knob: Knob) -> list[str]:
    """What a setting that names a file may be beside files."""
    return [*(["embedded"] if knob.files == "model" else knob.named)]


def on_this_machine() -> dict[str, list[str]]:
    """{kind, as `Knob.files` and `Knob.items` have it: names of the files that are there}. Reads their headers."""
    found: dict[str, list[str]] = {"restorer": [path.stem for path in RESTORER_FILES.files()]}
    found["upscaler"] = [path.stem for path in UPSCALER_FILES.files()]
    for info in list_models():
        kind = "model" if info.kind in BASES else {"sdxl-refiner": "refiner"}.get(info.kind, info.kind)
        if info.usable is not False and kind in ("model", "refiner", "vae", "lora"):
            found.setdefault(kind, []).append(info.path.stem if info.path.is_file() else info.path.name)
    return found
