"""Settings from and for other tools: `presets export`, `presets import`, and what `generate --from` reads."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import UsageError

from .terminal import Json, say

if TYPE_CHECKING:
    from workbench.presets.formats import Exported, Imported

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
PICTURE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
LARGEST = 2**20  # bytes of a text: the largest workflows of ComfyUI have some hundred thousand


def presets_export(
    source: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A preset, or a picture that carries its settings.")
    ],
    to: Annotated[str, typer.Option("--to", help="a1111, comfyui, invokeai, swarmui, styles, or script (diffusers).")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else it is printed.")] = None,
    as_json: Json = False,
) -> None:
    """Settings in the words of another tool. What it cannot say is named on stderr.

    Example: workbench presets export embedded --to script -o embedded.py
    """
    from workbench.files import check_writable, write_atomic
    from workbench.presets import load_preset
    from workbench.presets.formats import export_settings

    if Path(source).suffix.lower() in PICTURES:
        found = read_file(Path(source))
        name, settings, heard = Path(source).stem, found.settings, list(_words_of(found))
    else:
        loaded = load_preset(source)
        name, settings, heard = loaded.path.stem if loaded.path else loaded.name, loaded.settings, []
    exported = export_settings(settings, to, name)
    if output:
        if output.resolve() == Path(source).resolve():
            raise UsageError(f"{output} is what the settings are read from; give another file to write.")
        check_writable(output)
        write_atomic(output, exported.text.encode())
    _complain([*heard, *_words_about(exported)] if not as_json else ())
    about = {
        "to": to,
        "file": str(output) if output else None,
        "text": exported.text,
        "unmapped": dict(exported.unmapped),
        "notes": [*heard, *exported.notes],
    }
    say(about, as_json, lambda: str(output) if output else exported.text.rstrip("\n"))


def presets_import(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A picture or a text of another tool; - reads stdin.")],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Write it as this preset.")] = None,
    tool: Annotated[
        str | None, typer.Option("--format", help="What the text is, where that cannot be seen: a1111, comfyui ...")
    ] = None,
    as_json: Json = False,
) -> None:
    """What another tool's picture or text says in settings: what was read, guessed, and has no counterpart.

    Example: workbench presets import picture.png --as theirs
    """
    from workbench.presets import Preset, licences, presets_folder

    path = presets_folder() / f"{_free(name)}.json" if name else None
    found = read_file(Path(source), tool) if source != "-" else _read(sys.stdin.buffer.read(LARGEST + 1), "stdin", tool)
    replaced = bool(path and path.exists())
    if path and name:
        where = "stdin" if source == "-" else Path(source).name
        Preset(name, found.settings, f"From {where} of {found.tool}.", licences=licences(found.settings)).save(path)
    about = {
        "tool": found.tool,
        "preset": str(path) if path else None,
        "settings": found.settings.model_dump(),
        "read": dict(found.read),
        "guessed": dict(found.guessed),
        "unmapped": dict(found.unmapped),
        "notes": list(found.notes),
    }
    if replaced:
        _complain([f"{name} was there before: the former is kept (workbench presets history {name})"])
    say(about, as_json, lambda: _summary(found, path))


def read_file(path: Path, tool: str | None = None) -> Imported:
    """What a file says: a picture of ours exactly, or a picture or text of another tool; `tool`: a name of `FORMATS`.

    Raises `UsageError`, `UnreadablePicture`, `NoSettingsInPicture`, `NotUnderstood`.
    """
    from workbench.errors import NoSettingsInPicture, UnreadablePicture
    from workbench.files import read_settings
    from workbench.presets.formats import Imported

    if not path.is_file():
        what = "picture" if path.suffix.lower() in PICTURES else "file"
        raise UnreadablePicture(f"there is no {what} {path}; give a picture of this or another tool, or a text of one.")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
        if data.startswith(PICTURE_STARTS):
            data += file.read()
    if tool is None and data.startswith(PICTURE_STARTS[0]):  # ours may be larger than others are read
        try:
            return Imported("workbench", read_settings(path))
        except NoSettingsInPicture:
            return _read(data, str(path), tool)
    return _read(data, str(path), tool)


def _read(data: bytes, where: str, tool: str | None) -> Imported:
    from workbench.presets.formats import read_picture, read_text

    if data.startswith(PICTURE_STARTS):
        if tool is not None:
            raise UsageError(
                f"--format says what a text is, and {where} is a picture, which says so itself; leave it out."
            )
        return read_picture(data)
    if len(data) > LARGEST:
        raise UsageError(f"{where} has more than {LARGEST // 2**20} MiB, and is no picture; give a text or a picture.")
    try:
        return read_text(data.decode("utf-8-sig"), tool)
    except UnicodeDecodeError:
        raise UsageError(
            f"{where} is neither a PNG, JPEG or WebP picture nor a text in UTF-8; give one of them."
        ) from None


def tell(found: Imported, changed: Container[str] = ()) -> None:
    """What one should know of settings that were read from another tool, on stderr. `changed`: settings given otherwise."""
    _complain(_words_of(found, changed))


def _words_of(found: Imported, changed: Container[str] = ()) -> Iterable[str]:
    yield from (sentence for name, sentence in found.guessed.items() if name not in changed)
    yield from (f"{said} is left out: {why}" for said, why in found.unmapped.items())
    yield from found.notes


def _words_about(exported: Exported) -> Iterable[str]:
    by_why: dict[str, list[str]] = {}
    for name, why in exported.unmapped.items():
        by_why.setdefault(why, []).append(name)
    yield from (f"{', '.join(names)} cannot be said there: {why}" for why, names in by_why.items())
    yield from exported.notes


def _complain(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        typer.echo(f"workbench: {sentence.rstrip('.')}.", err=True)


def _free(name: str) -> str:
    """The name, if a preset that was imported may have it. Raises `UsageError`."""
    from workbench.presets import ENVIRONMENTS, check_replaceable

    if name in ENVIRONMENTS:
        raise UsageError(f"'{name}' is changed by promotion alone; choose another name, and promote that.")
    return check_replaceable(name)


def _summary(found: Imported, path: Path | None) -> str:
    from workbench.settings import Settings

    parts = [
        f"from {found.tool}" + (f", written to {path}" if path else "; --as NAME writes a preset"),
        *_table("settings", {n: repr(here) for n, (here, _) in found.settings.diff(Settings()).items()}),
        *_table("read from", found.read),
        *_table("guessed", found.guessed),
        *_table("no counterpart", found.unmapped),
        *(f"note: {note}" for note in found.notes),
    ]
    return "\n".join(parts)


def _table(title: str, rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows), default=0)
    return [f"{title}:", *(f"  {name:<{width}}  {value}" for name, value in rows.items())] if rows else []
