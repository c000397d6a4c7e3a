"""What SDXL's VAE asks of those who use it: wide numbers where it overflows, its own units, and a look at its answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workbench.errors import NotFinite

if TYPE_CHECKING:
    import torch


@contextmanager
def wide(vae: Any, dtype: torch.dtype) -> Iterator[torch.dtype]:
    """Inside, a VAE whose config says so has float32 weights: SDXL's own overflows in float16. Yields what it takes.

    However this ends, the VAE is as it was: one that an out-of-memory error left in float32 failed all later pictures.
    In bfloat16 only the pipelines' encoding goes to float32 and back, by itself.
    """
    import torch

    if not vae.config.force_upcast:
        yield dtype
        return
    log = logging.getLogger("diffusers.models.modeling_utils")
    level = log.level
    log.setLevel(logging.ERROR)  # each `to` warns that no module was to be kept in float32: []
    try:
        if dtype == torch.float16:
            vae.to(dtype=torch.float32)
        yield vae.dtype
    finally:
        if vae.dtype != dtype:
            vae.to(dtype=dtype)
        log.setLevel(level)


def unscaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents in the VAE's own units: divided by its scaling factor, then spread and moved if its config says so."""
    import torch

    config = vae.config
    mean, spread = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or spread is None:
        return latents / config.scaling_factor
    mean, spread = (torch.tensor(v).view(1, 4, 1, 1).to(latents.device, latents.dtype) for v in (mean, spread))
    return latents * spread / config.scaling_factor + mean


def check_vae_gave(tensor: torch.Tensor, where: str) -> None:
    """Raise `NotFinite` where the VAE's answer has other than numbers; `where`: the stage and its part."""
    if not tensor.isfinite().all():
        raise NotFinite(
            f"{where}: the VAE gave numbers that are none or infinite (NaN, inf), so there is no picture; the usual cause is "
            "a VAE that overflows in float16: name one that does not (vae = sdxl-vae-fp16-fix), or use another model file."
        )
