"""The command `generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.errors import UsageError

from .exchange import read_file, tell
from .terminal import Json, MaxMemory, Quiet, Set, say, setting_values

if TYPE_CHECKING:
    from workbench.presets import Preset
    from workbench.recipe import Result
    from workbench.settings import Settings


@dataclass(frozen=True)
class Places:
    """Where a picture is written. Attributes: beside: {stage: file}, with `--stages` only."""

    picture: Path
    beside: dict[str, Path]

    @property
    def all(self) -> tuple[Path, ...]:
        return (self.picture, *self.beside.values())


def generate(
    preset: Annotated[str | None, typer.Option("--preset", "-p", help="Preset name or file.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--from", help="Make a workbench PNG again, or a picture of another tool (see presets import)."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --from: refuse where another tool asks for what there is not here.")
    ] = False,
    prompt: Annotated[str | None, typer.Option(help="What the picture shows.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What it must not show.")] = None,
    seed: Annotated[int | None, typer.Option(help="-1 draws one.")] = None,
    number: Annotated[
        int | None,
        typer.Option(
            "-n",
            metavar="N",
            help="Pictures, 1 to 100, of the seeds S, S+1, ... (after the largest comes 0). Each has its seed in its name "
            "(face-42.png) and the pixels that --seed alone gives: they are made one after another, since a shared UNet "
            "batch changes pixels.",
        ),
    ] = None,
    settings: Set = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")] = Path("picture.png"),
    stages: Annotated[bool, typer.Option("--stages", help="Also write every stage's picture beside it.")] = False,
    quiet: Quiet = False,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Make a picture, or several of seeds in a row.

    Example: workbench generate --preset embedded --seed 3 --set strength=0.3 --set weight=0.8 -o face.png
    """  # fmt: skip
    from tqdm import tqdm

    from workbench.files import check_writable
    from workbench.presets import other_models, promise_withdrawn
    from workbench.recipe import generate_many

    own = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed}
    changes = {**{name: value for name, value in own.items() if value is not None}, **setting_values(settings)}
    start, loaded = _start(preset, picture, changes, strict=strict)
    wanted = start.replace(**changes)
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output} is not a .png; only PNG carries the settings without loss.")
    each = wanted.in_a_row(1 if number is None else number)
    places = [_places(output, s, named=number is not None, stages=stages) for s in each]
    for path in (path for place in places for path in place.all):
        check_writable(path)
    said = other_models(dataclasses.replace(loaded, settings=wanted)) if loaded else []
    said += [text] if loaded and wanted == start and (text := promise_withdrawn(loaded)) else []
    for text in said:
        typer.echo(f"workbench: {text}", err=True)
    made: list[dict[str, Any]] = []
    try:
        for place, result in zip(places, generate_many(each[0], len(each), quiet=quiet), strict=True):
            _save(result, place)
            made.append(_about(result, place, said))
            if not as_json:
                tqdm.write(f"{', '.join(map(str, place.all))}  ({result.seconds:.1f} s, seed {result.settings.seed})")
    finally:  # what is finished is said when the next one fails or is stopped, too
        if as_json and made:
            say(made[0] if number is None else made, as_json, str)


def _start(
    preset: str | None, picture: Path | None, changes: Mapping[str, object], *, strict: bool
) -> tuple[Settings, Preset | None]:
    """The settings to begin with, and the preset that they are of. `changes`: to be made to them."""
    from workbench.presets import load_preset

    if preset and picture:
        raise UsageError("--preset and --from both name the settings; give one of them.")
    if picture:
        found = read_file(picture)
        if strict and found.unmapped:
            raise UsageError(
                f"{picture} asks for what cannot be made here: {'; '.join(found.unmapped)}; leave out --strict."
            )
        tell(found, changes)
        return found.settings, None
    if strict:
        raise UsageError("--strict is about what --from reads; give --from, too.")
    loaded = load_preset(preset or "production")
    return loaded.settings, loaded


def _places(output: Path, s: Settings, *, named: bool, stages: bool) -> Places:
    """`named`: whether the seed is in the names, as other tools have it."""
    place = output.with_name(f"{output.stem}-{s.seed}{output.suffix}") if named else output
    beside = {name: place.with_name(f"{place.stem}-{name}.png") for name in (s.stages if stages else ())}
    return Places(place, beside)


def _save(result: Result, place: Places) -> None:
    from workbench.files import picture_chunks, png_bytes, write_atomic

    result.save(place.picture)
    for name, path in place.beside.items():
        image = result.stages[name]
        write_atomic(path, png_bytes(image, picture_chunks(image, result.settings, stage=name)))


def _about(result: Result, place: Places, said: list[str]) -> dict[str, Any]:
    from workbench.files import pixels_sha256

    return {
        "picture": str(place.picture),
        "pixels_sha256": pixels_sha256(result.image),
        "settings": result.settings.model_dump(),
        "counters": result.counters,
        "faces": next((len(info["faces"]) for info in result.info.values() if "faces" in info), None),
        "seconds": round(result.seconds, 3),
        "notes": [*result.notes, *said],
    }
