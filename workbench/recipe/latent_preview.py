"""A picture while it is denoised: a small one of what the UNet takes its latents for, by a matrix instead of the VAE.

A latent is four numbers for 8 x 8 px, and their mean colour is nearly a linear function of them. Which one is found by least
squares on colours that the VAE itself makes of random latents: so it is right for any VAE, also for one that was trained
anew. What is shown is not the noisy latents but the finished ones that the UNet predicts from them at this step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from .vae_numbers import unscaled, wide

if TYPE_CHECKING:
    import torch

    from .rows import Answer, Denoising, Row

Preview = Callable[[str, int, int, Image.Image], None]
"""(stage, step, steps of the stage, picture) of what is being denoised. The picture has one px for 8 x 8 px of the finished
one, or of the part that the stage works at."""

EVERY = 0.3  # s between two previews
FIELD, PATCH = (
    16,
    2,
)  # latents a side that the VAE decodes once, in patches of one colour: what is fitted are colours, no edges
LEAST = 1e-4  # the least share of picture in what the UNet is given: at none, its noise says nothing of the picture


class LatentPreviews:
    """Tells a listener of the rows of one job, at most every `EVERY` seconds, and computes nothing in between."""

    def __init__(self, tell: Preview, colours: torch.Tensor) -> None:
        """`colours`: as `fit_colours` has them."""
        self._tell, self._colours, self._next = tell, colours, 0.0

    def look(self, denoising: Denoising, row: Row, answer: Answer) -> None:
        """Tell of the step that a row is about to take, if it is time. Raises what the listener raises."""
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + EVERY
        picture = coloured(predicted(row, answer), self._colours)
        self._tell(denoising.stage, denoising.done + 1, denoising.steps, picture)


def fit_colours(vae: Any, dtype: torch.dtype) -> torch.Tensor:
    """The matrix that makes colours of latents: (5, 3), float32, of four latents and a one; red, green, blue from -1 to 1.

    Where the VAE gives no numbers it has none either, and previews are grey; whoever decodes the picture says so in words.
    """
    import torch

    side = FIELD // PATCH
    patches = torch.randn((1, 4, side, side), generator=torch.Generator("cpu").manual_seed(0))
    latents = patches.repeat_interleave(PATCH, -1).repeat_interleave(PATCH, -2)
    with torch.no_grad(), wide(vae, dtype) as kind:
        picture = vae.decode(unscaled(vae, latents.to(vae.device, kind)), return_dict=False)[0]
    shrunk = torch.nn.functional.adaptive_avg_pool2d(picture.float().cpu(), FIELD).nan_to_num(0, 0, 0)
    return torch.linalg.lstsq(_with_one(latents), shrunk.flatten(2)[0].T).solution


def predicted(row: Row, answer: Answer) -> torch.Tensor:
    """The finished latents, (1, 4, h, w), as the UNet's answer at this step has them.

    Whatever the sampler, the UNet is given a mixture of picture and noise whose squares add up to one, of which the timestep
    says how much is picture.
    """
    scheduler: Any = row.scheduler
    alphas = scheduler.alphas_cumprod
    share = float(alphas[min(len(alphas) - 1, round(float(row.timesteps[row.done])))])
    picture, noise = max(share, LEAST) ** 0.5, (1 - share) ** 0.5
    said, mixed = row.guided_by(*answer), row.scaled()
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return picture * mixed - noise * said
    return said if kind == "sample" else (mixed - noise * said) / picture


def coloured(latents: torch.Tensor, colours: torch.Tensor) -> Image.Image:
    """Latents, (1, 4, h, w), as a picture of w x h px."""
    import torch

    height, width = latents.shape[-2:]
    values = (_with_one(latents.float().cpu()) @ colours).reshape(height, width, 3)
    levels = (values.nan_to_num(0) * 127.5 + 127.5).clamp(0, 255).round().to(torch.uint8)
    return Image.fromarray(levels.numpy())


def _with_one(latents: torch.Tensor) -> torch.Tensor:
    """(1, 4, h, w) as (h w, 5), the last of which is one."""
    import torch

    flat = latents.flatten(2)[0].T
    return torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
