"""The command `serve`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .terminal import Json, MaxMemory, say


def serve(
    presets: Annotated[
        list[str] | None,
        typer.Option("--preset", "-p", help="Preset name or file; repeatable, the first is the default."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    token: Annotated[
        str | None, typer.Option(envvar="WORKBENCH_TOKEN", help="Which requests must show.", show_envvar=True)
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Let everybody in who reaches the port.")] = False,
    origins: Annotated[
        list[str] | None, typer.Option("--allow-origin", metavar="ORIGIN", help="A web page that may ask; repeatable.")
    ] = None,
    accept_licences: Annotated[
        bool, typer.Option("--accept-licences", help="Serve what its licence forbids to serve: you have leave to.")
    ] = False,
    accept_other_models: Annotated[
        bool,
        typer.Option(
            "--accept-other-models", help="Serve a preset whose weights are others here than it was made with."
        ),
    ] = False,
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Leave prompt and settings out of the PNGs.")
    ] = False,
    waiting: Annotated[int, typer.Option(min=1, max=10_000, help="Requests that may wait.")] = 32,
    max_memory: MaxMemory = None,
    as_json: Json = False,
) -> None:
    """Serve presets: POST /generate?prompt=...&seed=42 gives {"image": "data:image/png;base64,..."}; a page is at /.

    A promotion is picked up without a restart. From elsewhere, best by ssh -L 7860:127.0.0.1:7860.

    Example: workbench serve --preset production --port 7860
    Example: workbench serve --preset production --preset staging --host 0.0.0.0 --token "$WORKBENCH_TOKEN"
    """
    from workbench.recipe import tell_plan
    from workbench.serve import InForce, access_for, serve as listen

    names = presets or ["production"]
    access = access_for(host, token, no_token=no_token, origins=origins or ())
    served = InForce(names, accept_licences=accept_licences, accept_other_models=accept_other_models)
    found = [served.get(name) for name in served.names]
    where = {
        "url": f"http://{f'[{host}]' if ':' in host else host}:{port}",
        "preset": found[0].preset.name,
        "presets": served.names,
        "licences": list(dict.fromkeys(text for each in found for text in each.licences)),
        "withdrawn": found[0].withdrawn,
    }
    words = [
        f"serving {', '.join(served.names)} at {where['url']}",
        *(f"licence: {text}" for text in where["licences"]),
    ]
    say(where, as_json, lambda: "\n".join(words))
    if accept_licences:
        typer.echo("workbench: you have said that you may serve what these licences forbid to serve.", err=True)
    if no_token and not access.loopback:
        typer.echo(f"workbench: everybody who reaches {host}:{port} can make pictures here.", err=True)
    for text in dict.fromkeys(text for each in found for text in (*each.others, each.withdrawn) if text):
        typer.echo(f"workbench: {text}", err=True)
    sys.stdout.flush()
    tell_plan(found[0].preset.settings)
    listen(served, host, port, access=access, limit=waiting, strip_metadata=strip_metadata)
