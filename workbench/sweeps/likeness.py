"""What a worker's pictures depend on, and how two workers differ: unlike ones must not work on one run."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.files import package_version
from workbench.models import numerics
from workbench.recipe import library_versions
from workbench.settings import Settings, stages


def facts(s: Settings | None = None) -> dict[str, str]:
    """What this process's records depend on, in words: versions; of settings also machine, libraries and weights."""
    from workbench import scores  # loads torch, which looking at runs does not need

    found = {"workbench": package_version()} | {f"the score {name}": v for name, v in scores.versions().items()}
    if s:
        found |= {f"the {name}": value for name, value in numerics().items()}
        for stage in map(stages().__getitem__, s.stages):
            found |= library_versions(stage.libraries)
            found[f"the code of {stage.name}"] = str(stage.version)
            found[f"the weights of {stage.name}"] = str(stage.weights(s))
    return found


def differing(host: str, there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """The sentence of `OtherPictures`."""
    said = [
        f"{name} is {_short(there.get(name))} there and {_short(here.get(name))} here"
        for name in {**here, **there}
        if here.get(name) != there.get(name)
    ] or ["its keys are others for the same versions, weights and device"]
    return (
        f"the worker on {host} would make other pictures than this process has planned: {'; '.join(said)}. "
        "Install the same versions and the same model files on all machines, and use equal devices."
    )


def _short(value: str | None) -> str:
    return "missing" if value is None else value if len(value) < 60 else f"{value[:16]}…"
