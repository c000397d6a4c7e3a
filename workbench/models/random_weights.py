"""SDXL at its full size with random weights, where there are no others: its times and memory are true, its pictures noise."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from workbench.errors import DiskFull

from .checkpoints import CONFIGS, network_class
from .vocabulary import clip_tokenizer

if TYPE_CHECKING:
    import torch

PARTS = {"base": ("unet", "vae", "text_encoder", "text_encoder_2"), "refiner": ("unet", "vae", "text_encoder_2")}
TOKENIZERS_OF = {"base": ("tokenizer", "tokenizer_2"), "refiner": ("tokenizer_2",)}
NOISE = 4_194_301  # random numbers, repeated, since to draw all takes minutes; odd, or rows of matrices would be equal


def write_random_sdxl(folder: Path, which: Iterable[str] = ("base", "refiner"), *, quiet: bool = False) -> Path:
    """Write a diffusers folder of fp16 files: 6.9 GB for the base, 6.1 GB for the refiner. Raises `DiskFull`."""
    parts = [(name, part, network(name, part)) for name in which for part in PARTS[name]]
    needed = sum(2 * tensor.numel() for _, _, made in parts for tensor in made.state_dict().values())
    folder.mkdir(parents=True, exist_ok=True)
    if needed > (free := shutil.disk_usage(folder).free):
        raise DiskFull(
            f"random weights take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free at {folder}; free some, or name "
            "another disk in WORKBENCH_HOME."
        )
    for name, part, made in tqdm(parts, "random weights", disable=quiet):
        _write(filled(made.state_dict()), folder / name / part, "unet" if part in ("unet", "vae") else "text")
    for name in which:
        _write_configs(folder / name, name)
    return folder


def network(which: str, part: str) -> Any:
    """A full-size network without memory."""
    from accelerate import init_empty_weights

    made, folder = network_class(part), CONFIGS / which / part
    with init_empty_weights():
        if part in ("unet", "vae"):
            return made.from_config(made.load_config(folder, local_files_only=True))
        return made(made.config_class.from_pretrained(folder, local_files_only=True))


def filled(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Random float16 tensors of these shapes: small weights, norms of 1, no biases."""
    import torch

    noise = torch.empty(NOISE).normal_(std=0.02, generator=torch.Generator().manual_seed(0)).half()
    found = {}
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            size = tensor.numel()
            found[name] = noise.repeat(math.ceil(size / NOISE))[:size].view(tensor.shape).clone()
        else:
            found[name] = torch.full(tensor.shape, float(name.endswith("weight")), dtype=torch.float16)
    return found


def _write(tensors: dict[str, torch.Tensor], folder: Path, kind: str) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    stem = "diffusion_pytorch_model" if kind == "unet" else "model"
    save_file(tensors, folder / f"{stem}.fp16.safetensors", {"format": "pt"})


def _write_configs(folder: Path, which: str) -> None:
    for config in (CONFIGS / which).rglob("*.json"):
        place = folder / config.relative_to(CONFIGS / which)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(config.read_bytes())
    for part in TOKENIZERS_OF[which]:
        clip_tokenizer(part).save_pretrained(folder / part)
