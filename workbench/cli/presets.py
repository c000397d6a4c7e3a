"""The commands of the group `presets`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import BadPreset, PresetNotFound, UsageError

from .terminal import Json, group, say

if TYPE_CHECKING:
    from workbench.presets import Preset, PresetChange, ReplacedPreset
    from workbench.settings import Settings

presets_app = group("Look at presets, compare them, take a promotion back, exchange them.")
Name = Annotated[str, typer.Argument(help="Name of the preset.")]
NameOrFile = Annotated[str, typer.Argument(help="Preset name or file.")]
Note = Annotated[str, typer.Option(help="Why; the log keeps it.")]


def preset_words(preset: Preset) -> str:
    from workbench.presets import preset_licences

    lines = [f"{preset.name}  {preset.path}", preset.about]
    lines.extend(f"{name}: {preset.evidence[name]}" for name in ("chosen", "caveat") if preset.evidence.get(name))
    return "\n".join([*lines, *(f"licence: {text}" for text in preset_licences(preset))])


@presets_app.command("list")
def presets_list(as_json: Json = False) -> None:
    """Your presets and the shipped ones; who wrote yours when; a file that is no preset is named on stderr.

    Example: workbench presets list
    """
    from workbench.presets import damaged_presets, list_aliases, list_presets, preset_changes

    presets, damaged, aliases = list_presets(), damaged_presets(), list_aliases()
    last = {change.name: change for change in preset_changes()[0]}
    rows = [
        *(
            {"name": p.name, "about": p.about, "path": str(p.path), "promoted": bool(p.evidence), "problem": None}
            for p in presets
        ),
        *({"name": a.name, "about": None, "path": str(a.path), "promoted": False, "problem": None} for a in aliases),
        *(
            {"name": d.name, "about": None, "path": str(d.path), "promoted": False, "problem": d.problem}
            for d in damaged
        ),
    ]
    targets = {alias.name: alias.target for alias in aliases}
    for row in rows:
        change = last.get(str(row["name"]))
        row |= {
            "alias_of": targets.get(str(row["name"])),
            "changed": change.model_dump(mode="json") if change else None,
        }
    lines = [(p.name, f"{p.about}{_by(last.get(p.name))}") for p in presets]
    lines += [(name, f"alias of {target}{_by(last.get(name))}") for name, target in targets.items()]
    width = 2 + max(len(name) for name, _ in lines)
    say(rows, as_json, lambda: "\n".join(f"{name:<{width}}{text}" for name, text in lines))
    _warn(() if as_json else (d.problem for d in damaged))


def _by(change: PresetChange | None) -> str:
    """ "  (2026-11-28 18:28 UTC, promote, by anna@bench-1: why)" """
    if change is None:
        return ""
    who, why = change.who and f", by {change.who}", change.why and f": {change.why}"
    return f"  ({change.at:%Y-%m-%d %H:%M} UTC, {change.kind}{who}{why})"


def _warn(problems: Iterable[str]) -> None:
    """What a person has to know beside what was asked for, which scripts find in the JSON."""
    for problem in problems:
        typer.echo(f"workbench: {problem}", err=True)


@presets_app.command("show")
def presets_show(name: NameOrFile, as_json: Json = False) -> None:
    """A preset's settings, evidence, weights by digest, and licences.

    Example: workbench presets show recommended
    """
    from workbench.presets import load_preset, other_models, preset_licences

    preset = load_preset(name)
    settings = [f"  {n} = {v!r}" for n, v in preset.settings.model_dump().items()]
    models = [f"{component}: {model.name}  {model.digest}" for component, model in preset.models.items()]
    inside = f"its file calls it {preset.name_inside!r}; the name of the file counts, {preset.name}."
    notes = [*([inside] if preset.name_inside else []), *other_models(preset)]
    about = {
        **preset.to_json(),
        "path": str(preset.path),
        "licences_now": preset_licences(preset),
        "aliases": list(preset.via),
        "notes": notes,
    }
    digests = [f"settings {preset.digest}", *([f"parent   {preset.parent}"] if preset.parent else []), *models]
    say(about, as_json, lambda: "\n".join([preset_words(preset), *digests, *settings]))
    _warn(() if as_json else notes)


@presets_app.command("diff")
def presets_diff(old: NameOrFile, new: NameOrFile, as_json: Json = False) -> None:
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
    """What a preset was before it was replaced, newest first, and what replaced it: when, by whom and why.

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
                "alias_of": k.alias_of or None,
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
    alias = f"alias of {kept.alias_of}" if kept.alias_of else ""
    about = kept.preset.about if kept.preset else kept.problem or alias
    return f"{kept.stamp}  {about}{_by(kept.change).replace('(', '(replaced ', 1)}"


@presets_app.command("rollback")
def presets_rollback(
    name: Name = "production",
    to: Annotated[str | None, typer.Option("--to", help="Stamp (or its start) as presets history says it.")] = None,
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Put back the preset that was replaced last; doing it again undoes it.

    Example: workbench presets rollback production
    Example: workbench presets rollback production --note "too sharp for hands"
    """
    from workbench.presets import roll_back

    before = _settings_of(name)  # a damaged one is a reason to roll back
    preset = roll_back(name, to=to, why=note)
    changes = before.diff(preset.settings) if before else {}
    rows = [{"setting": setting, "from": a, "to": b} for setting, (a, b) in changes.items()]
    words = change_words(changes) or "its settings are those it had" * bool(before)
    say(
        {**preset.to_json(), "path": str(preset.path), "changes": rows},
        as_json,
        lambda: f"{preset_words(preset)}\n{words}",
    )


@presets_app.command("alias")
def presets_alias(
    name: Annotated[str, typer.Argument(help="The other name.")],
    target: Annotated[str, typer.Argument(help="Name of the preset that it means, whatever that becomes.")],
    note: Note = "",
    as_json: Json = False,
) -> None:
    """Give a preset another name, or point that name to another preset.

    Example: workbench presets alias portrait-best recommended
    """
    from workbench.presets import make_alias

    made = make_alias(name, target, note)
    about = {"name": made.name, "alias_of": made.target, "path": str(made.path)}
    say(about, as_json, lambda: f"{made.name} is an alias of {made.target}")


Force = Annotated[str | None, typer.Option(help="Do it all the same, for this reason, which the log keeps.")]


@presets_app.command("promote")
def presets_promote(
    source: Annotated[str, typer.Argument(help="The preset that has won a duel, like staging.")],
    name: Annotated[str, typer.Argument(help="What it becomes.")] = "production",
    note: Note = "",
    force: Force = None,
    as_json: Json = False,
) -> None:
    """Move what is in one environment to the next, byte for byte: staging to production.

    Only what has won a duel here becomes staging or production, unless you say why.

    Example: workbench presets promote staging production --note "two weeks without a complaint"
    """
    from workbench.presets import copy_preset, other_models

    before = _settings_of(name)
    preset = copy_preset(source, name, why=note, force=_given(force))
    changes = before.diff(preset.settings) if before else {}
    rows = [{"setting": setting, "from": a, "to": b} for setting, (a, b) in changes.items()]
    about = {**preset.to_json(), "path": str(preset.path), "changes": rows}
    say(about, as_json, lambda: "\n".join(filter(None, [preset_words(preset), change_words(changes)])))
    _warn(() if as_json else other_models(preset))


def _given(reason: str | None) -> str:
    if reason is not None and not reason.strip():
        raise UsageError('--force needs a reason, which is kept: --force "why".')
    return (reason or "").strip()


def _settings_of(name: str) -> Settings | None:
    """Of a preset of yours, if there is one that can be read."""
    from workbench.presets import load_preset, presets_folder

    try:
        return load_preset(presets_folder() / f"{name}.json").settings
    except (BadPreset, PresetNotFound):
        return None


@presets_app.command("push")
def presets_push(
    name: NameOrFile,
    url: Annotated[
        str, typer.Argument(help="A folder or .json: a path, or any fsspec URL, like s3://... or hf://user/repo.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace another file there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a preset's file elsewhere, byte for byte, so that others can pull it.

    Credentials are those of the address's own library: HF_TOKEN, AWS_ACCESS_KEY_ID ...

    Example: workbench presets push recommended memory://presets
    """
    from workbench.presets import load_preset, push_preset

    to = push_preset(name, url, force=force)
    settings = load_preset(name).settings.model_dump().items()
    local = [
        n
        for n, value in settings
        if "prompt" not in n and any(item.strip().startswith(("/", "~", "./", "../")) for item in str(value).split(","))
    ]
    say({"name": name, "url": str(to)}, as_json, lambda: f"{name} is at {to}")
    _warn(f"{n} is a path of this machine, which others do not have; name the file alone." for n in local)


@presets_app.command("pull")
def presets_pull(
    url: Annotated[
        str, typer.Argument(help="Of a .json: a path, or any fsspec URL, like s3://... or hf://user/repo/x.json.")
    ],
    name: Annotated[str, typer.Option(help="What it is to be called here; left out: as there.")] = "",
    note: Note = "",
    force: Force = None,
    as_json: Json = False,
) -> None:
    """Take a preset over that somebody pushed. It replaces none of yours, and no environment, unless you say why.

    Example: workbench presets pull s3://ours/presets/portraits.json --name portraits
    """
    from workbench.presets import other_models, pull_preset

    preset = pull_preset(url, name, why=note, force=_given(force))
    notes = other_models(preset)
    about = {**preset.to_json(), "path": str(preset.path), "notes": notes}
    say(about, as_json, lambda: preset_words(preset))
    _warn(() if as_json else notes)


@presets_app.command("verify")
def presets_verify(
    name: Annotated[
        str | None, typer.Argument(help="Only the files of this preset; the log is checked as a whole.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Whether log, presets and history are what the log's chain says. Exit status 1: something was tampered with, or lost.

    Example: workbench presets verify
    Example: workbench presets verify production
    """
    from workbench.presets import verify_presets

    check = verify_presets(name)
    about = {
        "intact": not check.problems,
        "changes": check.changes,
        "chained": check.chained,
        "head": check.head or None,
        "problems": check.problems,
        "notes": check.notes,
    }
    say(about, as_json, lambda: f"{check.words}{check.head and f'; the last line is {check.head}'}")
    _warn(() if as_json else [*check.notes, *check.problems])
    if check.problems:
        raise typer.Exit(1)


@presets_app.command("schema")
def presets_schema() -> None:
    """The JSON schema of preset files, for editors and other tools: name it in a file's "$schema".

    Example: workbench presets schema
    """
    from workbench.presets import preset_schema

    say(preset_schema(), False, lambda: json.dumps(preset_schema(), indent=2))
