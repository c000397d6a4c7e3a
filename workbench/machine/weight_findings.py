"""Whether the weights are here, and are what was published."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workbench.models import BASES, ModelInfo, list_models, model_path
from workbench.settings import Settings, stages
from workbench.store import size_words

from .findings import Finding, Status, found, ok
from .pulled import Checked, missing, pulled_files, there, verify_files, verify_weight
from .pulling import weights_for
from .registry import BASE, LPIPS, REFINER, REGISTRY, Weight, needed


def weights_of(s: Settings) -> Iterator[Finding]:
    """Of everything that settings load: what is missing or wrong has failed. LPIPS only scores."""
    known = needed(s)
    yield from (_of_weight(weight, "failed") for weight in known)
    yield _of_weight(LPIPS, "warning")
    if not any(("model", s.model) in weight.used_as for weight in known) and s.model != "embedded":
        yield from _of_own(model_path_found(s.model), s.model)
    # LoRAs, embeddings, VAEs and refiners by name: each stage says what it lacks
    for name in s.stages:
        line = found(f"weights of {name}", "failed", lambda name=name: _stage_words(name, s))
        if line.status != "ok":
            yield line


def model_path_found(name: str) -> Path | Finding:
    """Where a model lies that is in no registry."""
    line = found(f"model {name}", "failed", lambda: str(model_path(name)))
    return Path(line.said) if line.status == "ok" else line


def _stage_words(name: str, s: Settings) -> str:
    return str(stages()[name].weights(s))


def weights_here(s: Settings) -> Iterator[Finding]:
    """Of what is on this machine. What settings would load of the registry and is not here is a warning."""
    models = [info for info in list_models() if not _registered(info.path)]
    own_base = any(info.usable and info.kind in BASES for info in models)
    usual = [weight for weight in weights_for(s) if not (own_base and weight in (BASE, REFINER))]
    for weight in REGISTRY.values():
        if there(weight) or weight in usual or _begun(weight):
            yield _of_weight(weight, "warning")
    for info in models:
        yield from _of_own(info.path, info.path.name, info)


def _registered(path: Path) -> bool:
    """Whether a model's path is a weight of the registry, or has one in it."""
    return any(
        (place := there(weight)) and (place == path or place.is_relative_to(path)) for weight in REGISTRY.values()
    )


def _begun(weight: Weight) -> bool:
    """Whether a weight is half here, as an interrupted copy leaves it."""
    large = [file for file in weight.files if file.bytes is None or file.bytes > 10**6]
    return 0 < sum(weight.file_path(file).exists() for file in large) < len(large)


def _of_weight(weight: Weight, absent: Status) -> Finding:
    """`absent`: the status where it is not here. What is here and wrong has failed: it gives wrong pictures, if any."""
    what, place = f"weight {weight.name}", there(weight)
    if place is None:
        lacking = f"{len(missing(weight))} of its files are" if _begun(weight) else "is"
        remedy = (
            f"workbench models pull {weight.name} ({size_words(weight.bytes) if weight.bytes else 'size not known'})"
        )
        return Finding(what, absent, f"{lacking} not in {weight.path()}; it is {weight.about}", remedy)
    return _of_checked(what, place, verify_weight(weight), f"workbench models pull {weight.name}")


def _of_own(place: Path | Finding, name: str, info: ModelInfo | None = None) -> Iterator[Finding]:
    """Of a model that is in no registry: against what was known when it was pulled."""
    if isinstance(place, Finding):
        yield place
    elif info is not None and info.usable is False:
        yield Finding(f"model {name}", "warning", f"{place} cannot be used: {info.reason.rstrip('.')}", "take it away")
    else:
        own = [Path(path) for path in pulled_files() if Path(path) == place or Path(path).is_relative_to(place)]
        checked = verify_files(own)
        if checked:
            yield _of_checked(f"model {name}", place, checked, "pull it again")
        else:
            yield ok(f"model {name}", f"{place}, not verified: nobody has published its digest to the workbench")


def _of_checked(what: str, place: Path, checked: list[Checked], again: str) -> Finding:
    wrong = [check for check in checked if check.status in ("wrong", "missing")]
    if wrong:
        remedy = f"delete that file, then {again}"
        return Finding(what, "failed", f"{wrong[0].path.name} in {place} {wrong[0].said.rstrip('.')}", remedy)
    unknown = [check for check in checked if check.status == "not published" and check.path.suffix != ".json"]
    if unknown:
        said = (
            f"{len(unknown)} of its {len(checked)} files have no published digest; their size and structure are right"
        )
        return ok(what, f"{place}: {said}")
    return ok(what, f"{place} is what was published")
