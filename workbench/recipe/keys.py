"""What the stages of a picture take, and their content keys: what their pixels depend on. Loads no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import TypeVar

from workbench.errors import CorruptWeights, MissingWeights, WrongModel
from workbench.files import hash_json
from workbench.models import numerics
from workbench.settings import Settings, stages

from .stages.stage import DenoisingStage, Size, Stage
from .wording import one_moment, without_weights

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


def first_made(s: Settings) -> str:
    """The stage that the picture begins with: those behind it refine what is there, and may tear it."""
    return next(iter(s.stages))


def sizes(s: Settings) -> dict[str, tuple[Size, Size]]:
    """{stage: (the size at which it works, the size of its picture)} in px, of the stages these settings run."""
    found: dict[str, tuple[Size, Size]] = {}
    for name, taken in inputs(s).items():
        looked_at, last = (found[taken[i]][1] if taken else (0, 0) for i in (0, -1))
        stage = stages()[name]
        found[name] = (stage.works_at(s, looked_at), stage.size(s, last))
    return found


class ContentKeys:
    """Makes the content keys of many settings: what they have in common is looked up once, not again for each of them.

    So one maker is for one moment: it does not see a file or a switch that changes later.
    """

    def __init__(self) -> None:
        self._machine = numerics()
        self._weights: dict[tuple[object, ...], object] = {}

    def __call__(
        self, s: Settings, batch: Mapping[str, int] | None = None, *, made: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """As `stage_keys`. `made`: the keys of stages whose results are there already, perhaps from another machine."""
        with one_moment():
            return self._keys(s, batch, made)

    def _keys(self, s: Settings, batch: Mapping[str, int] | None, made: Mapping[str, str] | None) -> dict[str, str]:
        keys: dict[str, str] = {}
        for name, taken in inputs(s).items():
            if made and name in made:
                keys[name] = made[name]
                continue
            stage = stages()[name]
            parts = {
                "stage": name,
                "version": stage.version,
                "settings": stage.effective_settings(s),
                "input": "+".join(keys[before] for before in taken),
                "weights": self._weights_of(stage, s),
                "machine": self._machine,
                "libraries": library_versions(stage.libraries),
            }
            if (size := (batch or {}).get(name, 1)) != 1:
                parts["batch"] = size
            keys[name] = hash_json(parts)
        return keys

    def _weights_of(self, stage: Stage, s: Settings) -> object:
        which = (stage.name, *(getattr(s, name) for name in (*stage.networks, *stage.beside)))
        if which not in self._weights:
            self._weights[which] = stage.weights(s)
        return self._weights[which]


def stage_keys(s: Settings, batch: Mapping[str, int] | None = None) -> dict[str, str]:
    """{stage: content key} of the stages these settings run, in order.

    A key is a hash of all that the stage's pixels depend on: its settings, the files that are read of its networks, the
    machine and the switches of torch (see `numerics`), the versions of libraries, and the key of what it takes.

    `batch`: {denoising stage: pictures in a UNet batch}, 1 where it is left out: the number changes the last bits, so it is
    part of the keys. Raises `MissingWeights`, `CorruptWeights`.
    """
    return ContentKeys()(s, batch)


def keys_without_weights(s: Settings) -> dict[str, str]:
    """{stage: a key that tells its jobs apart}, by settings alone: for counting what another machine will do, with weights
    that are not here. Prompts that only a tokenizer could tell to be equal count as two.
    """
    keys: dict[str, str] = {}
    with without_weights():
        for name, taken in inputs(s).items():
            stage = stages()[name]
            try:
                acting = stage.effective_settings(s)
            except (MissingWeights, CorruptWeights, WrongModel):  # what a file would say, like a restorer's kind
                acting = {each: getattr(s, each) for each in stage.settings.model_fields}
            chosen = {each: getattr(s, each) for each in (*stage.networks, *stage.beside)}
            keys[name] = hash_json(
                {"settings": acting, "input": [keys[before] for before in taken], "networks": chosen}
            )
    return keys


@cache
def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    """{package: its version}."""
    return {library: version(library) for library in libraries}
