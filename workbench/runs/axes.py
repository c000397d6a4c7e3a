"""The axes of a run, and their values in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from workbench.settings import knob_of, short_name, shorthands

JOIN = "+"  # "width+height": the name of settings that vary together; no setting has it in its own


def swept(axes: Iterable[str]) -> list[str]:
    """The settings that axes vary; `cfg` varies two, "width+height" those that vary together."""
    names = [name for axis in axes for name in axis.split(JOIN)]
    return [name for n in names for name in shorthands().get(n, (n,))]


def label(axis: str) -> str:
    """What people read instead of an axis's name: "CodeFormer weight", "Width/Height" of settings that vary together."""
    names = [n for name in axis.split(JOIN) for n in shorthands().get(name, (name,))]
    return "/".join(knob_of(name).label for name in names)


def told(values: Mapping[str, object]) -> str:
    """Settings with their labels: "Strength 0.35, CodeFormer weight 0.6"; "" for none."""
    return ", ".join(f"{label(name)} {plain(value)}" for name, value in values.items())


def plain(value: object) -> str:
    """An axis value in words; 768/512 for settings that vary together, and the name alone of a file."""
    if isinstance(value, list | tuple):
        return "/".join(map(plain, value))
    return f"{value:g}" if isinstance(value, float) else short_name(str(value))


def listed(values: Sequence[object]) -> str:
    """Axis values in words: "0.2, 0.6 and 1"."""
    texts = [plain(value) for value in values]
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]
