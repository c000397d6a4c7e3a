"""The commands `models list` and `models show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import Json, group, say

if TYPE_CHECKING:
    from workbench.models import ModelInfo

models_app = group("Say what a model on the disk is, and whether it can be used.")


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """What is in WORKBENCH_HOME/models: kind, form, and whether it can be used.

    Example: workbench models list
    """
    from workbench.models import list_models, models_folder

    found = list_models()
    width = max((len(info.path.name) for info in found), default=0)
    lines = [f"{_mark(i)} {i.path.name:<{width}}  {i.kind:<13}{i.form:<12}{i.bytes / 1e9:5.1f} GB" for i in found]
    say(
        [i.to_json() for i in found], as_json, lambda: "\n".join(lines) or f"there is no model in {models_folder()} yet"
    )


@models_app.command("show")
def models_show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name, a path, or a hub id in the local cache.")],
    as_json: Json = False,
) -> None:
    """What a file or folder is, read from its header: kind, form, licence, whether it can be used and why not.

    Example: workbench models show RealVisXL_V5.0.safetensors
    """
    from workbench.models import inspect_model

    info = inspect_model(model)
    usable = {True: "yes", False: "no", None: "only loading can tell"}[info.usable]
    lines = [
        str(info.path),
        f"  kind     {info.kind}",
        f"  form     {info.form}, {info.bytes / 1e9:.2f} GB",
        f"  usable   {usable}: {info.reason}",
        *([f"  refiner  {info.refiner}"] if info.refiner else []),
        f"  licence  {info.licence}",
    ]
    say(info.to_json(), as_json, lambda: "\n".join(lines))


def _mark(info: ModelInfo) -> str:
    return {True: "ok ", False: "no ", None: "?  "}[info.usable]
