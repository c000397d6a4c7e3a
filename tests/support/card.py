"""A small card: it runs out of memory where more weights are on the device than it holds. No network is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.autoencoders.vae import Decoder, Encoder
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from workbench.recipe import Bench

AT_WORK = (UNet2DConditionModel, Encoder, Decoder, CLIPTextModel, CLIPTextModelWithProjection)


def networks(bench: Bench) -> dict[str, nn.Module]:
    """The networks of SDXL that a bench has, by part and name."""
    found: dict[str, nn.Module] = {}
    for held in bench._diffusions():
        refiner = held._refiner.pipe if held._refiner else None
        for part, pipe in (("base", held._base), ("refiner", refiner)):
            parts = pipe.components if pipe else {}
            found |= {f"{part} {n}": m for n, m in parts.items() if isinstance(m, nn.Module)}
    return found


def weights(bench: Bench) -> dict[str, int]:
    """{network: bytes of its weights on the device}, shared ones once, without those that are off it."""
    sizes, seen = {}, set()
    for name, network in networks(bench).items():
        there = sum(p.nbytes for p in network.parameters() if not p.is_meta)
        if there and id(network) not in seen:
            sizes[name] = there
        seen.add(id(network))
    return sizes


@contextmanager
def card(bench: Bench, holds: float = float("inf")) -> Iterator[list[dict[str, int]]]:
    """Inside, networks that begin to work beside more than `holds` bytes of weights run out of memory.

    Yields `weights` as each network found them when it began.
    """
    seen: list[dict[str, int]] = []

    def look(module: nn.Module, _: Any) -> None:
        if isinstance(module, AT_WORK):
            seen.append(weights(bench))
            if sum(seen[-1].values()) > holds:
                raise torch.OutOfMemoryError("CUDA out of memory")

    hook = register_module_forward_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()
