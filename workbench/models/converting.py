"""Weights in another precision than their file's, converted piece by piece.

A file is mapped into memory, and what of it was read counts until it is closed: a UNet of 5.1 GB lay in memory twice, as its
file and as its tensors. So it is opened anew for every piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import CorruptWeights

from .headers import read_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PIECE = 2**27  # numbers
NAMES = {"torch.float16": "F16", "torch.bfloat16": "BF16", "torch.float32": "F32"}


def converted(path: Path, names: Iterable[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file; those of floating point in this precision."""
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for piece in _pieces(path, names):
        with safe_open(path, framework="pt") as file:
            for name in piece:
                tensor = file.get_tensor(name)
                found[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor.clone()
                del tensor  # or the file stays open
    return found


def in_another_precision(files: Sequence[Path], dtype: torch.dtype) -> bool:
    """Whether all are `.safetensors` files, and some of their tensors are of another precision."""
    if any(file.suffix != ".safetensors" for file in files):
        return False
    try:
        held = {tensor.dtype for file in files for tensor in read_header(file).tensors.values()}
    except CorruptWeights:  # whoever loads them says so
        return False
    return held != {NAMES.get(str(dtype))}


def _pieces(path: Path, names: Iterable[str]) -> Iterator[list[str]]:
    """The names, in lists of about as many numbers."""
    tensors, piece, size = read_header(path).tensors, list[str](), 0
    for name in names:
        piece.append(name)
        size += tensors[name].numbers
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    yield piece
