"""Upscalers: Real-ESRGAN's own files by basicsr's networks, and any single-image network of spandrel's from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelTiling
from torch import Tensor, nn

from workbench.errors import CorruptWeights, WrongModel

from .architectures import architecture_of, registry
from .realesrgan import load_realesrgan, upscale
from .tensors import corrupt, read_tensors
from .upscaler_files import REALESRGAN_NAMES, UPSCALER_FILES, check_upscaler

BASICSR = ("ESRGAN", "Compact")  # of these the files that Real-ESRGAN has released are loaded by basicsr's networks
TILE, PAD = 256, 40  # of Real-ESRGAN
TILE_OTHERS, WINDOWS = 384, 64
"""Tiles of other networks and their surroundings, px: windows of 8, 16, 32 and 64 px fall as in the whole picture."""


class Described(nn.Module):
    """A network as spandrel describes it: it fills the picture up to the size that the network wants."""

    def __init__(self, descriptor: ImageModelDescriptor[Any]) -> None:
        super().__init__()
        self.net = descriptor.model
        self._call = descriptor

    def forward(self, x: Tensor) -> Tensor:
        # AuraSR draws noise: always the same
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(0)
            return cast(Tensor, self._call(x))


@dataclass(frozen=True)
class LoadedUpscaler:
    """An upscaler and how it is run.

    Attributes:
        net: from (1, 3, H, W) RGB in 0..1 to (1, 3, scale*H, scale*W).
        tile: side of a tile in px of the input; 0: the picture in one piece, as networks need that look at all of it.
        pad: surroundings of a tile.
        step: what the picture's size is filled up to a multiple of; 0: as Real-ESRGAN of that scale needs.
    """

    net: nn.Module
    scale: int
    tile: int
    pad: int
    step: int = 0

    def __call__(self, image: np.ndarray, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
        """See `realesrgan.upscale`."""
        return upscale(self.net, self.scale, image, self.tile, self.pad, progress, step=self.step)


def load_upscaler(name: str, device: str | torch.device = "cpu") -> LoadedUpscaler:
    """Load an upscaler in float32.

    Args:
        name: one of `REALESRGAN_NAMES`, or a file: its name under models/upscalers, or its path.
        device: where it runs.

    Raises:
        MissingWeights, CorruptWeights.
        WrongModel: a file of another kind of network.
    """
    path = None if name in REALESRGAN_NAMES else UPSCALER_FILES.find(name)
    if path is None or architecture_of(path) in BASICSR:
        try:
            net, scale = load_realesrgan(path or name, device)
            return LoadedUpscaler(net, scale, TILE, PAD)
        except CorruptWeights:
            if path is None:
                raise  # else of another make: spandrel knows the older names of ESRGAN, and other activations
    return _described(path, device)


def _described(path: Path, device: str | torch.device) -> LoadedUpscaler:
    found = check_upscaler(path)
    state, _ = read_tensors(path)
    try:
        descriptor = registry().load(state)
    except Exception as error:  # each architecture has its own way to stumble over tensors that do not fit
        said = (str(error) or type(error).__name__).splitlines()[-1].strip()
        raise corrupt(path, f"it does not fit {found}: {said[:160]}") from error
    if not isinstance(descriptor, ImageModelDescriptor) or descriptor.purpose not in ("SR", "Restoration"):
        raise WrongModel(f"{path} is {found}, which does not enlarge or clean a picture; name another upscaler.")
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise WrongModel(
            f"{path} is {found} for pictures of {descriptor.input_channels} channel(s), not for colour; name another one."
        )
    net = Described(descriptor).to(device).eval().requires_grad_(False)
    whole = descriptor.tiling != ModelTiling.SUPPORTED
    return LoadedUpscaler(net, descriptor.scale, 0 if whole else TILE_OTHERS, WINDOWS, step=1)
