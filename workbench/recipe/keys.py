"""What the stages of a picture take, and their content keys: what their pixels depend on. Loads no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import TypeVar

from workbench.files import hash_json
from workbench.models import hardware
from workbench.settings import Settings, stages

from .stages.stage import DenoisingStage, Size, Stage

Of = TypeVar("Of", bound=Stage)


def stage_named(name: str, kind: type[Of] = Stage) -> Of:
    """The registered stage of that name, which is of that kind."""
    stage = stages()[name]
    assert isinstance(stage, kind), name
    return stage


def batch_of(size: int = 1) -> dict[str, int]:
    """{denoising stage: `size`}: pictures in a UNet batch; 1 is what the plain pipelines have."""
    return {name: size for name, stage in stages().items() if isinstance(stage, DenoisingStage)}


def inputs(s: Settings) -> dict[str, tuple[str, ...]]:
    """{stage: the stages whose pictures it takes}, in the order the stages run."""
    taken: dict[str, tuple[str, ...]] = {}
    before: tuple[str, ...] = ()
    for name in s.stages:
        taken[name] = before
        looked_at = before[:1] if stages()[name].background(s) else ()
        before = (*looked_at, name)
    return taken


def last_made(s: Settings) -> str:
    """The last stage that makes the picture; those behind it mend it, and fidelity is measured against its result."""
    return [name for name in s.stages if stages()[name].makes][-1]


def sizes(s: Settings) -> dict[str, tuple[Size, Size]]:
    """{stage: (the size at which it works, the size of its picture)} in px, of the stages these settings run."""
    found: dict[str, tuple[Size, Size]] = {}
    for name, taken in inputs(s).items():
        looked_at, last = (found[taken[i]][1] if taken else (0, 0) for i in (0, -1))
        stage = stages()[name]
        found[name] = (stage.works_at(s, looked_at), stage.size(s, last))
    return found


def stage_keys(
    s: Settings, batch: Mapping[str, int] | None = None, identity: Callable[[Stage, Settings], object] | None = None
) -> dict[str, str]:
    """{stage: content key} of the stages these settings run, in order.

    Args:
        batch: {denoising stage: pictures in a UNet batch}, 1 where it is left out: the number changes the last bits, so it is
            part of the keys.
        identity: may stand in for `Stage.weights`, to look at each weights file only once for many settings.

    Raises:
        MissingWeights.
    """
    keys: dict[str, str] = {}
    for name, taken in inputs(s).items():
        stage = stages()[name]
        parts = {
            "stage": name,
            "version": stage.version,
            "settings": stage.effective_settings(s),
            "input": "+".join(keys[before] for before in taken),
            "weights": identity(stage, s) if identity else stage.weights(s),
            "backend": hardware.backend(),
            "libraries": library_versions(stage.libraries),
        }
        if (size := (batch or {}).get(name, 1)) != 1:
            parts["batch"] = size
        keys[name] = hash_json(parts)
    return keys


@cache
def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    """{package: its version}."""
    return {library: version(library) for library in libraries}


def weights_read_once() -> Callable[[Stage, Settings], object]:
    """For `stage_keys` of many settings: `Stage.weights`, each looked at once. They take 1.8 of the 2 ms of a cell's keys."""
    known: dict[tuple[object, ...], object] = {}

    def identity(stage: Stage, s: Settings) -> object:
        which = (stage.name, *(getattr(s, name) for name in stage.networks))
        if which not in known:
            known[which] = stage.weights(s)
        return known[which]

    return identity
