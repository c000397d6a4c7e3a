"""The recipe as a user of diffusers would write it, with nothing of ours."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from workbench.settings import Settings


def plain_recipe(base: Any, refines: Any, s: Settings) -> tuple[Image.Image, Image.Image]:
    """(base picture, refined picture) of two pipelines that have their samplers already."""
    for pipe in (base, refines):
        pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(s.seed)
    first = base(
        s.prompt, negative_prompt=s.negative_prompt, width=s.width, height=s.height, num_inference_steps=s.steps,
        guidance_scale=s.base_cfg, generator=generator,
    ).images[0]  # fmt: skip
    second = refines(
        s.prompt, negative_prompt=s.negative_prompt, image=first.resize(s.hires_size, Image.Resampling.LANCZOS),
        strength=s.strength, num_inference_steps=s.refine_steps, guidance_scale=s.refine_cfg, generator=generator,
    ).images[0]  # fmt: skip
    return first, second
