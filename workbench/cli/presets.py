"""The commands `presets list`, `show`, `diff`, `history`, `rollback`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import Json, group, say

if TYPE_CHECKING:
    from workbench.presets import Preset, ReplacedPreset

presets_app = group("Look at presets, compare them, take a promotion back.")
Name = Annotated[str, typer.Argument(help="Name of the preset.")]


def preset_words(preset: Preset) -> str:
    from workbench.presets import preset_licences

    lines = [f"{preset.name}  {preset.path}", preset.about]
    if preset.evidence:
        said = (f"{name}: {preset.evidence[name]}" for name in ("chosen", "caveat") if name in preset.evidence)
        lines.extend(said)  # written by hand, evidence may be anything
    return "\n".join([*lines, *(f"licence: {text}" for text in preset_licences(preset))])


@presets_app.command("list")
def presets_list(as_json: Json = False) -> None:
    """Your presets and the shipped ones; a file that is no preset is named on stderr.

    Example: workbench presets list
    """
    from workbench.presets import damaged_presets, list_presets

    presets, damaged = list_presets(), damaged_presets()
    good = [(p.name, p.about, p.path, bool(p.evidence), None) for p in presets]
    bad = [(d.name, None, d.path, False, d.problem) for d in damaged]
    rows = [
        {"name": name, "about": about, "path": str(path), "promoted": promoted, "problem": problem}
        for name, about, path, promoted, problem in (*good, *bad)
    ]
    width = 2 + max(len(preset.name) for preset in presets)
    say(rows, as_json, lambda: "\n".join(f"{p.name:<{width}}{p.about}" for p in presets))
    _warn(() if as_json else (d.problem for d in damaged))


def _warn(problems: Iterable[str]) -> None:
    """What a person has to know beside what was asked for, which scripts find in the JSON."""
    for problem in problems:
        typer.echo(f"workbench: {problem}", err=True)


@presets_app.command("show")
def presets_show(name: Annotated[str, typer.Argument(help="Preset name or file.")], as_json: Json = False) -> None:
    """A preset's settings, evidence and licences.

    Example: workbench presets show recommended
    """
    from workbench.presets import load_preset, preset_licences

    preset = load_preset(name)
    settings = "\n".join(f"  {n} = {v!r}" for n, v in preset.settings.model_dump().items())
    about = {**preset.to_json(), "path": str(preset.path), "licences_now": preset_licences(preset)}
    say(about, as_json, lambda: f"{preset_words(preset)}\n{settings}")


@presets_app.command("diff")
def presets_diff(
    old: Annotated[str, typer.Argument(help="Preset name or file.")],
    new: Annotated[str, typer.Argument(help="Preset name or file.")],
    as_json: Json = False,
) -> None:
    """Every setting in which two presets differ, from the first to the second.

    Example: workbench presets diff recommended embedded
    """
    from workbench.presets import load_preset

    changes = load_preset(old).settings.diff(load_preset(new).settings)
    rows = [{"setting": name, "from": a, "to": b} for name, (a, b) in changes.items()]
    say(rows, as_json, lambda: change_words(changes) or f"{old} and {new} have equal settings")


def change_words(changes: Mapping[str, tuple[object, object]]) -> str:
    """One line a setting: "strength   0.35 -> 0.5"."""
    width = max(map(len, changes), default=0)
    return "\n".join(f"{name:<{width}}  {a!r} -> {b!r}" for name, (a, b) in changes.items())


@presets_app.command("history")
def presets_history(name: Name, as_json: Json = False) -> None:
    """What a preset was before it was replaced, newest first, and what replaced it.

    Example: workbench presets history production
    """
    from workbench.presets import history, preset_changes

    kept, problems = history(name), preset_changes(name)[1]
    rows = [
        *(
            {
                "stamp": k.stamp,
                "path": str(k.path),
                "about": k.preset.about if k.preset else None,
                "problem": k.problem or None,
                "replaced": k.change.model_dump(mode="json") if k.change else None,
            }
            for k in kept
        ),
        *({"stamp": None, "path": None, "about": None, "problem": text, "replaced": None} for text in problems),
    ]
    lines = [_history_words(k) for k in kept]
    say(rows, as_json, lambda: "\n".join(lines) or f"no preset '{name}' was replaced yet")
    _warn(() if as_json else problems)


def _history_words(kept: ReplacedPreset) -> str:
    about = kept.preset.about if kept.preset else kept.problem
    by = f"  (replaced {kept.change.at:%Y-%m-%d %H:%M} UTC, {kept.change.kind})" if kept.change else ""
    return f"{kept.stamp}  {about}{by}"


@presets_app.command("rollback")
def presets_rollback(
    name: Name = "production",
    to: Annotated[str | None, typer.Option("--to", help="Stamp (or its start) as presets history says it.")] = None,
    as_json: Json = False,
) -> None:
    """Put back the preset that was replaced last; doing it again undoes it.

    Example: workbench presets rollback production
    """
    from workbench.errors import BadPreset, PresetNotFound
    from workbench.presets import load_preset, presets_folder, roll_back

    try:
        before = load_preset(presets_folder() / f"{name}.json").settings
    except (BadPreset, PresetNotFound):  # a damaged one is a reason to roll back
        before = None
    preset = roll_back(name, to=to)
    changes = before.diff(preset.settings) if before else {}
    rows = [{"setting": setting, "from": a, "to": b} for setting, (a, b) in changes.items()]
    words = change_words(changes) or "its settings are those it had" * bool(before)
    say(
        {**preset.to_json(), "path": str(preset.path), "changes": rows},
        as_json,
        lambda: f"{preset_words(preset)}\n{words}",
    )
