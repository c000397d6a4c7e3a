"""The commands `models list | pull | verify | where | show | licences`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import MissingWeights, UsageError, WorkbenchError

from .terminal import Json, Quiet, Set, group, say, setting_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.machine import Checked, Linked, PullPlan, Weight
    from workbench.models import ModelInfo
    from workbench.settings import Settings

models_app = group("The weights: which there are, where they lie, whether they are whole; and fetch them.")

For = Annotated[str | None, typer.Option("--for", metavar="PRESET", help="Those that a preset (or its file) needs.")]


def settings_for(preset: str, changes: list[str] | None) -> Settings:
    """The settings of a preset with `--set` on top."""
    from workbench.presets import load_preset

    return load_preset(preset).settings.replace(**setting_values(changes))


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Every weight that can be pulled by name, and what else is in WORKBENCH_HOME/models: what it is, whether it can be used.

    Example: workbench models list
    """
    from workbench.machine import REGISTRY, there
    from workbench.models import list_models, models_folder

    known = [(weight, there(weight)) for weight in REGISTRY.values()]
    own = {place for _, place in known if place}
    found = [info for info in list_models() if not any(p == info.path or p.is_relative_to(info.path) for p in own)]
    about = {
        "registry": [{**_weight_json(weight), "path": str(place) if place else None} for weight, place in known],
        "models": [info.to_json() for info in found],
    }
    width = max(len(name) for name in [*REGISTRY, *(info.path.name for info in found)])
    lines = [f"{'here' if p else '-':<6}{w.name:<{width}}  {_size(w.bytes):>8}  {w.about}" for w, p in known]
    lines += [f"{_mark(i):<6}{i.path.name:<{width}}  {_size(i.bytes):>8}  {i.kind}, {i.form}" for i in found]
    lines.append(f"- is not here; workbench models pull NAME fetches it into {models_folder()}")
    say(about, as_json, lambda: "\n".join(lines))


def _weight_json(weight: Weight) -> dict[str, object]:
    return {
        "name": weight.name,
        "about": weight.about,
        "source": weight.source,
        "bytes": weight.bytes,
        "licence": weight.licence,
        "needed_by": weight.needed_by,
    }


def _size(count: int | None) -> str:
    from workbench.store import size_words

    return size_words(count) if count else "size ?"


def _mark(info: ModelInfo) -> str:
    return {True: "ok", False: "no", None: "?"}[info.usable]


@models_app.command("pull")
def models_pull(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Of the registry, a hub id (org/repo), or an address."),
    ] = None,
    preset: For = None,
    settings: Set = None,
    folder: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Models folder of A1111, ComfyUI or InvokeAI, used in place."),
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where a file belongs under models, if it does not say itself.")
    ] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only say what would be fetched.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fetch weights into WORKBENCH_HOME/models: resumed where it stopped, checked, never half a file under its name.

    What is there already, in the Hugging Face cache or in --from, is used in place. Tokens: HF_TOKEN, CIVITAI_API_TOKEN.

    Example: workbench models pull --for recommended
    Example: workbench models pull RealESRGAN_x2plus SG161222/RealVisXL_V5.0
    Example: workbench models pull --from ~/stable-diffusion-webui/models
    """
    from workbench.machine import check_known, check_pulled, link_all, plan_pull, pull, weights_for

    if settings and preset is None:
        raise UsageError("--set changes the preset of --for; name one.")
    if not names and preset is None and folder is None:
        raise UsageError(
            "name what to pull, or --for PRESET, or --from FOLDER; workbench models list says what there is."
        )
    if not names and preset is None and folder is not None:
        if plan_only:
            raise UsageError("--from by itself fetches nothing; it links what is there, so there is no --plan of it.")
        linked = link_all(folder, quiet=quiet or as_json)
        say([_linked_json(each) for each in linked], as_json, lambda: _linked_words(linked, folder))
        return
    chosen = settings_for(preset, settings) if preset else None
    weights = weights_for(chosen) if chosen else []
    if chosen and not names:  # what is named may be its model
        check_known(chosen)
    plan = plan_pull(names or [], weights=weights, folder=folder, into=into)
    if plan_only:
        say(_plan_json(plan), as_json, lambda: _plan_words(plan))
        return
    if not as_json:
        typer.echo(_plan_words(plan), err=True)
    with _bar(plan, quiet or as_json) as progress:
        places = pull(plan, progress)
    unknown = check_pulled(places, weights)
    if chosen:
        check_known(chosen)
    about = {**_plan_json(plan), "paths": [str(p) for p in places], "without_digest": unknown}
    say(about, as_json, lambda: _pulled_words(places, unknown))


@contextmanager
def _bar(plan: PullPlan, quiet: bool) -> Iterator[Callable[[int], object]]:
    from tqdm.auto import tqdm

    fetched = [piece.remote for piece in plan.pieces if piece.remote]
    total = sum(remote.bytes or 0 for remote in fetched) or None  # with what an earlier pull has left of them
    with tqdm(total=total, disable=quiet or not fetched, unit="B", unit_scale=True, desc="pull") as bar:
        yield bar.update


def _plan_json(plan: PullPlan) -> dict[str, object]:
    pieces = [{"path": str(p.target), "how": p.how, "bytes": p.bytes, "source": p.source} for p in plan.pieces]
    return {"bytes": plan.bytes, "free": plan.free, "files": pieces}


def _plan_words(plan: PullPlan) -> str:
    from workbench.store import size_words

    lines = [
        f"{piece.how:<10}{size_words(piece.bytes) if piece.bytes else '':>10}  {piece.target}" for piece in plan.pieces
    ]
    return "\n".join([*lines, f"{size_words(plan.bytes)} to fetch, {size_words(plan.free)} free"])


def _pulled_words(places: list[Path], unknown: int) -> str:
    tops = dict.fromkeys(str(place) for place in places if place.suffix in (".safetensors", ".pth"))
    rest = f"; of {unknown} no digest is published, their size and structure are right" if unknown else ""
    return "\n".join([*tops, f"{len(places)} files are there, and are what was published{rest}"])


def _linked_json(each: Linked) -> dict[str, str | None]:
    return {"path": str(each.path) if each.path else None, "target": str(each.target), "said": each.said}


def _linked_words(linked: list[Linked], folder: Path) -> str:
    lines = [f"{'ok ' if each.path else 'no '} {each.target.name}: {each.said}" for each in linked]
    return "\n".join(lines) or f"{folder} holds no .safetensors or .pth file and no diffusers folder"


@models_app.command("verify")
def models_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Of the registry; all that is here.")
    ] = None,
    preset: For = None,
    settings: Set = None,
    again: Annotated[
        bool, typer.Option("--again", help="Read every byte anew, though dates and sizes are as before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check weights against the digests that were published. Exit status 1 if one is missing or is not what was published.

    Example: workbench models verify --for recommended
    """
    from workbench.machine import REGISTRY, needed, pulled_files, there, verify_files, verify_weight, weight_named

    if names or preset:
        pulled = {name: _pulled_under(name) for name in names or []}
        weights = [weight_named(name) for name, files in pulled.items() if not files]
        chosen = settings_for(preset, settings) if preset else None
        weights += needed(chosen) if chosen else []
        found = [check for weight in weights for check in verify_weight(weight, again=again)]
        own = [file for files in pulled.values() for file in files] + (_pulled_under(chosen.model) if chosen else [])
        found += verify_files(own, again=again)
    else:
        here = [weight for weight in REGISTRY.values() if there(weight)]
        found = [check for weight in here for check in verify_weight(weight, again=again)]
        done = {check.path for check in found}
        found += verify_files([p for p in map(Path, pulled_files()) if p not in done], again=again)
    say([_checked_json(check) for check in found], as_json, lambda: _checked_words(found))
    if bad := [check for check in found if check.status in ("wrong", "missing")]:
        raise WorkbenchError(
            f"{len(bad)} of {len(found)} files are missing or wrong ({bad[0].path.name} first); delete the wrong ones and "
            "pull again."
        )


def _pulled_under(name: str) -> list[Path]:
    """The files that were pulled of a model that is in no registry."""
    from workbench.machine import REGISTRY, pulled_files
    from workbench.models import model_path

    if name in REGISTRY:
        return []
    try:
        place = model_path(name)
    except WorkbenchError:
        return []
    return [path for path in map(Path, pulled_files()) if path == place or path.is_relative_to(place)]


def _checked_json(check: Checked) -> dict[str, str]:
    return {"path": str(check.path), "status": check.status, "said": check.said}


def _checked_words(found: list[Checked]) -> str:
    return "\n".join(f"{check.status:<14}{check.path} {check.said}" for check in found) or "there is nothing to verify"


@models_app.command("where")
def models_where(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Of the registry, a name, a path, or a hub id.")],
    as_json: Json = False,
) -> None:
    """Where a weight lies on this machine, and where it came from.

    Example: workbench models where codeformer
    """
    from workbench.machine import REGISTRY, pulled_files, there
    from workbench.models import model_path

    if weight := REGISTRY.get(model):
        place = there(weight)
        if place is None:
            raise MissingWeights(f"{model} is not here; workbench models pull {model} fetches it to {weight.path()}.")
        source = weight.source
    else:
        place = model_path(model)
        under = [known for path, known in pulled_files().items() if Path(path).is_relative_to(place)]
        source = (
            under[0].source
            if len(under) == 1
            else under[0].source.rpartition("@")[0]
            if under
            else "elsewhere: not pulled"
        )
    really = place.resolve()
    about = {"path": str(place), "really": str(really), "source": source}
    say(about, as_json, lambda: f"{place}{f' -> {really}' if really != place.absolute() else ''}\n  from {source}")


@models_app.command("show")
def models_show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Of the registry, a name, a path, or a hub id.")],
    as_json: Json = False,
) -> None:
    """What a weight is. Of a file or folder, read from its header: kind, form, licence, whether it can be used and why not.

    Example: workbench models show RealVisXL_V5.0.safetensors
    """
    from workbench.machine import REGISTRY
    from workbench.models import inspect_model

    if weight := REGISTRY.get(model):
        _show_weight(weight, as_json)
        return
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


def _show_weight(weight: Weight, as_json: bool) -> None:
    from workbench.machine import there

    place = there(weight)
    digests = {file.name: file.digest or None for file in weight.files}
    lines = [
        f"{weight.name}: {weight.about}",
        f"  source     {weight.source}",
        f"  size       {_size(weight.bytes)}",
        f"  needed by  {weight.needed_by}",
        f"  licence    {weight.licence}",
        f"  here       {place or f'no; workbench models pull {weight.name} fetches it'}",
        *(
            f"  sha256     {digest or 'the hub or nobody says it'}  {name}"
            for name, digest in digests.items()
            if _large(name)
        ),
    ]
    about = {**_weight_json(weight), "path": str(place) if place else None, "files": digests}
    say(about, as_json, lambda: "\n".join(lines))


def _large(name: str) -> bool:
    return name.endswith((".safetensors", ".pth"))


@models_app.command("licences")
def models_licences(preset: For = None, as_json: Json = False) -> None:
    """Under which licences the weights come: of one preset, or of all in the registry and in the models folder.

    Example: workbench models licences --for recommended
    """
    from workbench.machine import REGISTRY
    from workbench.models import list_models
    from workbench.presets import licences

    if preset:
        found = licences(settings_for(preset, None))
    else:
        found = [weight.licence for weight in REGISTRY.values()] + [info.licence for info in list_models()]
    found = list(dict.fromkeys(found))
    say(found, as_json, lambda: "\n".join(found))
