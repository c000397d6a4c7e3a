"""The command `generate`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from workbench.errors import UsageError

from .terminal import Json, MaxMemory, Quiet, Set, say, setting_values


def generate(
    preset: Annotated[str | None, typer.Option("--preset", "-p", help="Preset name or file.")] = None,
    picture: Annotated[Path | None, typer.Option("--from", help="Make a workbench PNG again.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What the picture shows.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What it must not show.")] = None,
    seed: Annotated[int | None, typer.Option(help="-1 draws one.")] = None,
    settings: Set = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")] = Path("picture.png"),
    stages: Annotated[bool, typer.Option("--stages", help="Also write every stage's picture beside it.")] = False,
    quiet: Quiet = False,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Make one picture.

    Example: workbench generate --preset embedded --seed 3 --set strength=0.3 --set weight=0.8 -o face.png
    """
    from workbench.files import (
        check_writable,
        picture_chunks,
        pixels_sha256,
        png_bytes,
        read_settings,
        write_atomic,
    )
    from workbench.presets import load_preset, other_models, promise_withdrawn
    from workbench.recipe import generate as make

    if preset and picture:
        raise UsageError("--preset and --from both name the settings; give one of them.")
    loaded = None
    if picture:
        start = read_settings(picture)
    else:
        loaded = load_preset(preset or "production")
        start = loaded.settings
    changes = setting_values(settings)
    own = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed}
    wanted = start.replace(**changes, **{n: v for n, v in own.items() if v is not None and n not in changes})
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output} is not a .png; only PNG carries the settings without loss.")
    beside = {name: output.with_name(f"{output.stem}-{name}.png") for name in (wanted.stages if stages else ())}
    for path in (output, *beside.values()):
        check_writable(path)
    said = other_models(dataclasses.replace(loaded, settings=wanted)) if loaded else []
    said += [text] if loaded and wanted == start and (text := promise_withdrawn(loaded)) else []
    result = make(wanted, quiet=quiet)
    result.save(output)
    for name, path in beside.items():
        image = result.stages[name]
        write_atomic(path, png_bytes(image, picture_chunks(image, result.settings, stage=name)))
    seconds = round(result.seconds, 3)
    about = {
        "picture": str(output),
        "pixels_sha256": pixels_sha256(result.image),
        "settings": result.settings.model_dump(),
        "counters": result.counters,
        "faces": next((len(info["faces"]) for info in result.info.values() if "faces" in info), None),
        "seconds": seconds,
        "notes": [*result.notes, *said],
    }
    for text in said:
        typer.echo(f"workbench: {text}", err=True)
    say(
        about,
        as_json,
        lambda: f"{', '.join(map(str, (output, *beside.values())))}  ({seconds:.1f} s, seed {result.settings.seed})",
    )
