"""How much memory networks need, from the headers of their files: known before anything is loaded."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from . import hardware, weights
from .parts import weight_files

GIB = 2**30
DECODE_ALIVE, VAE_CHANNELS = 3.0, 128  # GiB a megapixel of SDXL's VAE, which decodes in float32, and its first block's


def sdxl_memory(
    model: str, vae: str, networks: Sequence[str], step_alive: float, channels: int, megapixels: float
) -> tuple[dict[str, int], float]:
    """({network: bytes of its weights}, bytes alive beside them) of one of SDXL's denoising stages, as `Stage.memory`.

    Args:
        networks: folders inside the model's, the UNet's first; the VAE is added.
        step_alive: GiB a megapixel that a guided step of the full-size UNet on the batch needs in float16, by meta tensors.
        channels: of that UNet's first block; a narrow one's activations are as much less.

    Raises `MissingWeights`, `CorruptWeights`.
    """
    folder, item = weights.model_path(model), hardware.dtype().itemsize
    parts = [folder / name for name in networks]
    decoder = weights.vae_path(vae) or folder / "base" / "vae"
    step = step_alive * item / 2 * _share(parts[0], channels)
    alive = megapixels * max(step, DECODE_ALIVE * _share(decoder, VAE_CHANNELS)) * GIB
    return {str(part): parameters(part) * item for part in (*parts, decoder)}, alive


def _share(network: Path, full: int) -> float:
    """Channels of a network's first block, as a share of the full-size one's."""
    config = network / "config.json"
    return json.loads(config.read_text())["block_out_channels"][0] / full if config.exists() else 1.0


def parameters(folder: Path) -> int:
    """How many numbers a diffusers folder's weights hold, from the headers of its files; 0 where there is none."""
    files = [path for path in weight_files(folder) if path.suffix == ".safetensors"]
    return sum(_parameters_of(path, path.stat().st_mtime_ns) for path in files)


@cache
def _parameters_of(path: Path, changed: int) -> int:
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (struct.error, ValueError):  # cut short: loading it says so, an estimate need not
        return 0
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
