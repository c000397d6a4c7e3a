"""Which face restorers there are, what each does with `weight`, and where their files lie. Loads no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.errors import WrongModel

from .architectures import ENDINGS, ONNX, PLUS_PLUS, architecture_of, check_no_onnx
from .licences import LICENCES
from .shelf import Shelf
from .weights import restorer_path

CODEFORMER = "codeformer"


@dataclass(frozen=True)
class RestorerKind:
    """A face restorer.

    Attributes:
        name: of its architecture.
        fidelity: whether `weight` acts: it goes from the restorer's own face (0) to the one it was given (1).
        licence: of its released weights.
    """

    name: str
    fidelity: bool
    licence: str


RESTORERS = {
    kind.name: kind
    for kind in (
        RestorerKind("CodeFormer", True, LICENCES["codeformer"]),
        RestorerKind("GFPGAN", False, LICENCES["gfpgan"]),
        RestorerKind("RestoreFormer", False, LICENCES["restoreformer"]),
        RestorerKind(PLUS_PLUS, False, LICENCES["restoreformer"]),
    )
}

RESTORER_FILES = Shelf(
    "face restorer",
    ("restorers", "facerestore_models", "GFPGAN", "Codeformer"),
    ENDINGS,
    check_no_onnx,
    foreign=(ONNX,),
    rather="; or use restorer 'codeformer' or 'none'",
)


def restorer_file(restorer: str, model: Path) -> Path:
    """The weights of a restorer, as the setting names it, for a model. Raises `MissingWeights`, `WrongModel`."""
    return restorer_path(model) if restorer == CODEFORMER else RESTORER_FILES.find(restorer)


def restorer_kind(restorer: str) -> RestorerKind:
    """What a restorer is, as the setting names it. Raises `MissingWeights`, `CorruptWeights`, `WrongModel`."""
    if restorer == CODEFORMER:
        return RESTORERS["CodeFormer"]
    path = RESTORER_FILES.find(restorer)
    found = architecture_of(path)
    if found not in RESTORERS:
        raise WrongModel(
            f"{path} is {found}, which restores no faces; take one of {', '.join(RESTORERS)}, or name it in upscaler."
        )
    return RESTORERS[found]
