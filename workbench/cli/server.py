"""The command `serve`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .terminal import Json, MaxMemory, say


def serve(
    preset: Annotated[str, typer.Option("--preset", "-p", help="Preset name or file.")] = "production",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Serve a preset: POST /generate?prompt=...&seed=42 gives {"image": "data:image/png;base64,..."}.

    Example: workbench serve --preset production --port 7860
    """
    from workbench.presets import forbids_serving, load_preset, preset_licences, promise_withdrawn
    from workbench.recipe import tell_plan
    from workbench.serve import serve as listen

    loaded = load_preset(preset)
    licences, withdrawn = preset_licences(loaded), promise_withdrawn(loaded)
    where = {"url": f"http://{host}:{port}", "preset": loaded.name, "licences": licences, "withdrawn": withdrawn}
    say(
        where,
        as_json,
        lambda: f"serving {loaded.name} at {where['url']}\n" + "\n".join(f"licence: {t}" for t in licences),
    )
    for text in forbids_serving(licences):
        typer.echo(f"workbench: careful, you are serving what its licence forbids to serve: {text}.", err=True)
    if withdrawn:
        typer.echo(f"workbench: {withdrawn}", err=True)
    sys.stdout.flush()
    tell_plan(loaded.settings)
    listen(loaded, host, port)
