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


def weights_of(s: Settings) -> list[Finding]:
    """Of everything that settings load: what is missing or wrong has failed. LPIPS only scores."""
    known = needed(s)
    lines = [_of_weight(weight, "failed") for weight in known]
    if s.model != "embedded" and not any(("model", s.model) in weight.used_as for weight in known):
        place = found(f"model {s.model}", "failed", lambda: str(model_path(s.model)))
        lines.append(_of_own(Path(place.said), s.model) if place.status == "ok" else place)
    if all(line.status == "ok" for line in lines):  # LoRAs, embeddings, VAEs by name: each stage says what it lacks
        stage_lines = (found(f"weights of {name}", "failed", lambda name=name: _read(name, s)) for name in s.stages)
        lines += [line for line in stage_lines if line.status != "ok"]
    return [*lines, _of_weight(LPIPS, "warning")]


def _read(stage: str, s: Settings) -> str:
    return str(stages()[stage].weights(s))


def weights_here(s: Settings) -> Iterator[Finding]:
    """Of what is on this machine. What settings would load of the registry and is not here is a warning."""
    models = [info for info in list_models() if not _registered(info.path)]
    own_base = any(info.usable and info.kind in BASES for info in models)
    usual = [weight for weight in weights_for(s) if not (own_base and weight in (BASE, REFINER))]
    for weight in REGISTRY.values():
        if there(weight) or weight in usual or _begun(weight):
            yield _of_weight(weight, "warning")
    for info in models:
        yield _of_own(info.path, info.path.name, info)


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


def _of_own(place: Path, name: str, info: ModelInfo | None = None) -> Finding:
    """Of a model that is in no registry: against what was known when it was pulled."""
    what = f"model {name}"
    if info is not None and info.usable is False:
        return Finding(what, "warning", f"{place} cannot be used: {info.reason.rstrip('.')}", "move it elsewhere")
    checked = verify_files(path for path in map(Path, pulled_files()) if path == place or path.is_relative_to(place))
    if checked:
        return _of_checked(what, place, checked, "pull it again")
    return ok(what, f"{place}, not verified: its digest is not known")


def _of_checked(what: str, place: Path, checked: list[Checked], again: str) -> Finding:
    wrong = [check for check in checked if check.status in ("wrong", "missing")]
    if wrong:
        remedy = f"delete that file, then {again}"
        said = wrong[0].said.removeprefix(f"{wrong[0].path} ").rstrip(".")
        return Finding(what, "failed", f"{wrong[0].path} {said}", remedy)
    unknown = [check for check in checked if check.status == "not published" and check.path.suffix != ".json"]
    if unknown:
        said = (
            f"{len(unknown)} of its {len(checked)} files have no published digest; their size and structure are right"
        )
        return ok(what, f"{place}: {said}")
    return ok(what, f"{place} is what was published")
