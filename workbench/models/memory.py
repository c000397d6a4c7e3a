"""How much memory SDXL's networks need, from the headers of their files: known before anything is loaded."""

from __future__ import annotations

from workbench.errors import CorruptWeights

from . import hardware
from .checkpoints import Checkpoint
from .residency import DeviceUse, Kind
from .sdxl import Sdxl

GIB = 2**30
DECODE_ALIVE, VAE_CHANNELS = 3.0, 128  # GiB a megapixel of SDXL's VAE, which decodes in float32, and its first block's
TILE = 1.0  # megapixels of a tile of SDXL's VAE: 1024 x 1024 px, as its config has it
STEP_ALIVE = {"base": (0.31, 320), "refiner": (0.37, 384)}
"""GiB a megapixel of a guided step of the full-size UNet in float16, by meta tensors, and the channels of its first block."""


def sdxl_uses(sdxl: Sdxl, part: str, batch: int, megapixels: float) -> list[DeviceUse]:
    """What a denoising stage does on the device: reading prompts, steps of the UNet, the VAE.

    A network that two parts share has one name, so that it counts once. A narrow network's activations are as much less.

    Args:
        part: "base" or "refiner".
        batch: pictures in a UNet batch.

    Raises `MissingWeights`, `CorruptWeights`, `WrongModel`, `WrongVAE`.
    """
    checkpoint, item = sdxl.checkpoint(part), hardware.dtype(sdxl.dtype).itemsize
    networks = {
        name: sdxl.base if part == "refiner" and sdxl.shares(name) else checkpoint for name in checkpoint.networks
    }
    held = {name: (f"{c.path}: {name}", c.parameters(name) * item) for name, c in networks.items()}
    if vae := sdxl.given_vae:
        held["vae"] = (str(vae.path), vae.parameters() * item)
    alive, full = STEP_ALIVE["refiner" if checkpoint.refines else "base"]
    step = alive * batch * item / 2 * _share(checkpoint, "unet", full)
    decode = DECODE_ALIVE * _share(networks["vae"], "vae", VAE_CHANNELS)
    decoded = min(megapixels, TILE) if sdxl.tiled else megapixels
    beside: dict[Kind, float] = {"text encoders": 0.0, "unet": step * megapixels, "vae": decode * decoded}
    return [
        DeviceUse((part, kind), dict(held[name] for name in held if kind_of(name) == kind), size * GIB)
        for kind, size in beside.items()
    ]


def kind_of(network: str) -> Kind:
    """The kind of a part's network, of the names that diffusers has for them."""
    return "unet" if network == "unet" else "vae" if network == "vae" else "text encoders"


def full_size_alive(*, refines: bool, batch: int, megapixels: float, tiled: bool) -> float:
    """Bytes alive beside the weights while full-size SDXL denoises in float16, or decodes. `refines`: with the refiner."""
    alive, _ = STEP_ALIVE["refiner" if refines else "base"]
    return max(alive * batch * megapixels, DECODE_ALIVE * (min(megapixels, TILE) if tiled else megapixels)) * GIB


def _share(checkpoint: Checkpoint, network: str, full: int) -> float:
    """Channels of a network's first block, as a share of the full-size one's."""
    try:
        return float(checkpoint.config(network)["block_out_channels"][0]) / full
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CorruptWeights(
            f"{checkpoint.configs / network / 'config.json'} does not say its channels ({error!r}); fetch the model again."
        ) from None
