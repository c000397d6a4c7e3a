"""Your presets' folder and the shipped ones: finding, listing, what was replaced, and putting that back."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import BadPreset, NothingToRollBack, PresetNotFound, UsageError
from workbench.files import hash_json, home

from .change_log import PresetChange
from .preset import ENVIRONMENTS, Alias, Preset, check_preset_name, parse_any, read
from .replacing import changes, changing, content, kept, preset_files, reason, replace

SHIPPED = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class ReplacedPreset:
    """A preset that was replaced.

    Attributes:
        stamp: when its file was written, UTC: 20261126T182843.867639.
        path: where its file is kept.
        preset: None where the file cannot be read, and `problem` says why, or where it was an alias.
        alias_of: the preset that the alias named; "" of a preset.
        change: the change that replaced it; None where that happened before there was a log.
    """

    stamp: str
    path: Path
    preset: Preset | None
    problem: str = ""
    change: PresetChange | None = None
    alias_of: str = ""


@dataclass(frozen=True)
class DamagedPreset:
    """A file among your presets that is none; `problem` is a sentence that names it."""

    name: str
    path: Path
    problem: str


def presets_folder() -> Path:
    """Where your own presets lie: `$WORKBENCH_HOME/presets`."""
    return home() / "presets"


def list_presets() -> list[Preset]:
    """Your own presets, then the shipped ones that yours do not hide; `damaged_presets` has the files that cannot be read.

    Each has the name by which `load_preset` finds it, that of its file: a copied file still has the other's name in it.
    """
    return [found for _, found in _listed() if isinstance(found, Preset)]


def list_aliases() -> list[Alias]:
    """The other names that you gave to presets."""
    return [found for _, found in _listed() if isinstance(found, Alias)]


def damaged_presets() -> list[DamagedPreset]:
    """The files among your presets that cannot be read as one."""
    return [DamagedPreset(path.stem, path, str(found)) for path, found in _listed() if isinstance(found, BadPreset)]


def _listed() -> Iterator[tuple[Path, Preset | Alias | BadPreset]]:
    own = preset_files(presets_folder())
    names = {path.stem for path in own}
    for path in [*own, *(p for p in preset_files(SHIPPED) if p.stem not in names)]:
        try:
            if found := read(path):
                yield path, found
        except BadPreset as error:
            yield path, error


def load_preset(name_or_path: str | Path) -> Preset:
    """A preset by name (your own before a shipped one), by an alias, or by path. Raises `PresetNotFound`, `BadPreset`."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".json"):
        path = Path(name_or_path).expanduser()
        if found := read(path):
            return _meant(found)
        raise PresetNotFound(f"there is no preset file {path}.")
    if found := _named(text):
        return _meant(found)
    names = sorted({p.stem for folder in (presets_folder(), SHIPPED) for p in preset_files(folder)})
    near = difflib.get_close_matches(text, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(names)}"
    if text == "production":
        hint = "promote a sweep first (workbench promote latest), or name one of " + ", ".join(names)
    raise PresetNotFound(f"there is no preset '{text}'; {hint}.")


def _named(name: str) -> Preset | Alias | None:
    return read(presets_folder() / f"{name}.json") or read(SHIPPED / f"{name}.json")


def _meant(found: Preset | Alias) -> Preset:
    """The preset itself, or the one that an alias leads to. Raises `BadPreset`: it leads to none."""
    via: list[str] = []
    while isinstance(found, Alias):
        again = f"point it elsewhere: workbench presets alias {found.name} PRESET"
        if found.name in via:
            raise BadPreset(
                f"the alias '{found.name}' leads back to itself ({' -> '.join([*via, found.name])}); {again}."
            )
        via.append(found.name)
        target = _named(found.target)
        if target is None:
            raise BadPreset(f"the alias '{found.name}' names the preset '{found.target}', which there is not; {again}.")
        found = target
    return dataclasses.replace(found, via=tuple(via)) if via else found


def names_behind(source: str) -> list[str]:
    """The name or path of a preset, and where it is an alias, those that it leads to."""
    found = [source]
    while (alias := _alias_named(found[-1])) and alias.target not in found:
        found.append(alias.target)
    return found


def _alias_named(source: str) -> Alias | None:
    return alias_at(
        Path(source).expanduser() if "/" in source or source.endswith(".json") else presets_folder() / f"{source}.json"
    )


def make_alias(name: str, target: str, why: str = "") -> Alias:
    """Give a preset another name, or point a name that it had to another preset. It follows what its target becomes.

    Raises `UsageError` where the name is a preset's, `PresetNotFound`, and `BadPreset` where it would lead to itself.
    """
    path = presets_folder() / f"{check_alias_name(name)}.json"
    made = Alias(name, check_preset_name(target), path)
    load_preset(target)  # what is wrong with the request is said before anything is written, a lock included
    with changing(path.parent):
        check_alias_name(name)
        if name in (target, *load_preset(target).via):
            raise BadPreset(f"the alias '{name}' would lead back to itself by '{target}'; name a preset.")
        replace(path, made.data(), "alias", why=why, source=target)
    return made


def check_alias_name(name: str) -> str:
    """The name itself, if an alias may have it: it is no preset's, and no environment's. Raises `UsageError`."""
    path = presets_folder() / f"{check_preset_name(name)}.json"
    if name in ENVIRONMENTS:
        raise UsageError(f"'{name}' is written by a promotion and is no alias; choose another name.")
    if (SHIPPED / path.name).exists() or not (content(path) is None or alias_at(path)):
        raise UsageError(f"'{name}' is a preset; an alias needs a name of its own.")
    return name


def alias_at(path: Path) -> Alias | None:
    """The alias in a file, if it is one's."""
    try:
        found = read(path)
    except BadPreset:
        return None
    return found if isinstance(found, Alias) else None


def preset_changes(name: str | None = None) -> tuple[list[PresetChange], list[str]]:
    """(every change of your presets or of one of them, the oldest first; a sentence for each line that cannot be read)"""
    return changes(presets_folder(), name)


def history(name: str = "production") -> list[ReplacedPreset]:
    """Every preset that once had this name and was replaced, newest first. Raises `UsageError` for a name that cannot be."""
    path = presets_folder() / f"{check_preset_name(name)}.json"
    replaced_by = {change.kept: change for change in preset_changes(name)[0]}
    found = []
    for each in kept(path):
        try:
            preset, problem = parse_any(each.path, each.read(), name), ""
        except FileNotFoundError:  # put back while this was read
            continue
        except OSError as error:
            preset, problem = None, f"{each.path} cannot be read ({reason(error)})."
        except BadPreset as error:
            preset, problem = None, str(error)
        change = replaced_by.get(each.stamp)
        if isinstance(preset, Alias):
            found.append(ReplacedPreset(each.stamp, each.path, None, "", change, preset.target))
        else:
            found.append(ReplacedPreset(each.stamp, each.path, preset, problem, change))
    return found


def roll_back(name: str = "production", *, to: str | None = None, why: str = "") -> Preset:
    """Put a replaced preset back, byte for byte: the last one, or the one whose stamp begins with `to`.

    The preset that it replaces now is kept in the history, so that rolling back again undoes it.

    Raises:
        NothingToRollBack: none was replaced, or not exactly one has such a stamp.
        BadPreset: the file to be put back is damaged.
    """
    path = presets_folder() / f"{check_preset_name(name)}.json"
    _chosen(name, to)  # what is wrong with the request is said before anything is written, a lock included
    with changing(path.parent):
        back = _chosen(name, to)
        data = back.path.read_bytes()
        evidence = hash_json(back.preset.evidence) if back.preset and back.preset.evidence else None
        replace(path, data, "rollback", put_back=back.stamp, why=why, evidence=evidence)
    return _meant(parse_any(path, data))


def _chosen(name: str, to: str | None) -> ReplacedPreset:
    """The replaced preset that is meant, if it can be put back."""
    replaced = history(name)
    if not replaced:
        raise NothingToRollBack(
            f"there is nothing to roll back to: no preset '{name}' was replaced yet in {presets_folder()}."
        )
    chosen = [each for each in replaced if to is None or each.stamp.startswith(to)]
    if not chosen or (to is not None and len(chosen) > 1):
        stamps = ", ".join(each.stamp for each in replaced)
        raise NothingToRollBack(
            f"{len(chosen) or 'no'} replaced presets of '{name}' are from '{to}'; there are {stamps}."
        )
    if chosen[0].preset is None and not chosen[0].alias_of:
        problem = chosen[0].problem.rstrip(".")
        raise BadPreset(f"{problem}; roll back to another one (workbench presets history {name}).")
    return chosen[0]


def check_replaceable(name: str) -> str:
    """The name itself, if you may write a preset of it: any but a shipped one's or an alias's. Raises `UsageError`."""
    if (SHIPPED / f"{check_preset_name(name)}.json").exists():
        raise UsageError(f"'{name}' is a shipped preset and cannot be overwritten; choose another name.")
    if alias := alias_at(presets_folder() / f"{name}.json"):
        raise UsageError(
            f"'{name}' is an alias of '{alias.target}' and cannot be overwritten; name that, or choose another name."
        )
    return name
