"""How much memory a picture needs that was never made here: its weights, and what is alive beside them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from workbench.errors import MissingWeights
from workbench.models import hardware, weights
from workbench.settings import Settings

GIB = 2**30
LARGEST_BATCH, FILL = 8, 0.85  # more rows gain nothing at 1536 px; share of the free memory that an estimate may fill

# GiB of live activations of the full-size networks, counted on meta tensors. Of a megapixel (1024 x 1024):
STEP = {"base": 0.31, "refine": 0.37}  # a guided step on one picture, in float16
DECODE = 3.0  # in float32, as SDXL's VAE asks for
# whatever the picture's size:
FACES, UPSCALE = 0.55, 1.4  # CodeFormer on one face, in float32; x4plus on one tile


def auto_batch(settings: Iterable[Settings]) -> dict[str, int]:
    """{stage: pictures in a UNet batch} that fit into the device's free memory, a power of two up to `LARGEST_BATCH`.

    1 on the CPU, where a batch gains nothing (8.61 times the naive loop at batch 1, 8.61 at 3, 8.25 at 9).
    """
    free = hardware.free_memory()
    size = 1
    if free is not None:
        largest = max(settings, key=lambda s: (_megapixels(s), len(s.stages)))
        while size < LARGEST_BATCH and (estimated_memory(largest, 2 * size) or math.inf) < FILL * free:
            size *= 2
    return {"base": size, "refine": size}


def estimated_memory(s: Settings, batch: int = 1) -> int | None:
    """Bytes: all weights in the precision used, and the activations of the stage that has most.

    `batch`: pictures in a UNet batch. None where the weights are missing or in no file whose size can be read.
    """
    try:
        model, vae = weights.model_path(s.model), weights.vae_path(s.vae)
        restorer = weights.restorer_path(model).stat().st_size if s.restorer != "none" else 0
    except MissingWeights:
        return None
    networks = [model / "base" / name for name in ("unet", "text_encoder", "text_encoder_2")]
    networks += [vae or model / "base/vae", *[model / "refiner/unet"] * s.hires]
    counts = [_parameters(folder) for folder in networks]
    if not all(counts):
        return None
    item = hardware.dtype().itemsize
    base, refined = s.width * s.height / 1024**2, _megapixels(s)
    live = [
        STEP["base"] * base * batch * item / 2 * _width(networks[0], 320),
        DECODE * refined * _width(networks[3], 128),
    ]
    live += [STEP["refine"] * refined * batch * item / 2 * _width(networks[-1], 384)] * s.hires
    live += [FACES] * (s.restorer != "none") + [UPSCALE] * (s.upscaler != "none")
    return int(sum(counts) * item + restorer + max(live) * GIB)


def _megapixels(s: Settings) -> float:
    return math.prod(s.hires_size if s.hires else (s.width, s.height)) / 1024**2


def _width(network: Path, full: int) -> float:
    """Channels of a network's first block, as a share of the full-size one's: a narrow one's activations are as much less."""
    config = network / "config.json"
    return json.loads(config.read_text())["block_out_channels"][0] / full if config.exists() else 1.0


def _parameters(folder: Path) -> int:
    """How many numbers a diffusers folder's weights hold, from the headers of its files; 0 where there is none."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [path for path in files if ".fp16." not in path.name] or files  # what is loaded where both lie there
    return sum(_parameters_of(path, path.stat().st_mtime_ns) for path in plain)


@cache
def _parameters_of(path: Path, changed: int) -> int:
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
    except (struct.error, ValueError):  # cut short: loading it says so, an estimate need not
        return 0
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
