"""Which network a weights file holds, told by spandrel from the names and shapes of its tensors. No code in a file is run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import WrongModel

from .finding import ONE_FILE
from .headers import read_header

if TYPE_CHECKING:
    from spandrel import ArchRegistry
    from torch import Tensor

ENDINGS = (".pth", ONE_FILE, ".pt", ".ckpt")
ONNX = ".onnx"
PLUS_PLUS = "RestoreFormer++"


def architecture_of(path: Path) -> str:
    """The network that a file holds, as spandrel calls it ("CodeFormer", "ESRGAN", "DAT"), or "RestoreFormer++".

    Raises:
        MissingWeights, CorruptWeights.
        WrongModel: an ONNX file, GPEN, or no network that spandrel knows.
    """
    from .tensors import existing

    check_no_onnx(path)
    stat = existing(path).stat()
    return _architecture_of(path, stat.st_size, stat.st_mtime_ns)


def check_no_onnx(path: Path) -> None:
    if path.suffix.lower() == ONNX:
        raise WrongModel(
            f"{path} is an ONNX file, which the workbench does not run; take the .pth or .safetensors of the same network."
        )


@lru_cache(maxsize=64)
def _architecture_of(path: Path, size: int, changed: int) -> str:
    state = without_prefix(_shapes(path))
    if any(name.startswith("ecd0.") for name in state) and "final_linear.0.weight" in state:
        raise WrongModel(
            f"{path} is GPEN, which spandrel does not have, so that the workbench cannot run it; take CodeFormer, GFPGAN or "
            "RestoreFormer."
        )
    for support in registry().architectures("detection"):
        if support.architecture.detect(dict(state)):
            found = str(support.architecture.id)
            plus = found == "RestoreFormer" and any(name.startswith(EXTRA_ATTENTION) for name in state)
            return PLUS_PLUS if plus else found
    raise WrongModel(
        f"{path} holds no network that spandrel knows (its first tensor is {next(iter(state), 'missing')}); name a restorer "
        "of faces (CodeFormer, GFPGAN, RestoreFormer) or an upscaler (ESRGAN, SPAN, DAT, SwinIR and others)."
    )


EXTRA_ATTENTION = "decoder.up.4.attn."
"""RestoreFormer++ looks at the encoder's features at 32 px, too; RestoreFormer's decoder has no attention there."""


def without_prefix(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors of the network alone: RestoreFormer's training keeps it as `vqvae`, beside its discriminators."""
    own = "vqvae."
    if not any(name.startswith(own) for name in state):
        return state
    return {name.removeprefix(own): tensor for name, tensor in state.items() if name.startswith(own)}


def _shapes(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file, as cheaply as they are to be had: those of `.safetensors` have no content."""
    import torch

    from .tensors import read_table, unwrapped

    if path.suffix.lower() == ONE_FILE:
        tensors = read_header(path).tensors
        return unwrapped({name: torch.empty(tensor.shape, device="meta") for name, tensor in tensors.items()})
    return read_table(path)


@cache
def registry() -> ArchRegistry:
    """The architectures that a file is compared with: spandrel's and its extra ones."""
    with warnings.catch_warnings():
        # CodeFormer's `swish` is a torch.jit.script function, deprecated since torch 2.9: the warning is not ours to fix
        warnings.simplefilter("ignore")
        from spandrel import MAIN_REGISTRY
        from spandrel_extra_arches import EXTRA_REGISTRY

    found = MAIN_REGISTRY.copy()
    found.add(*EXTRA_REGISTRY)
    return found
