"""The samplers by the names that people know."""

from __future__ import annotations

from typing import Literal

# {name: (diffusers' scheduler class, what it changes in the model's own scheduler config)}.
# Only samplers with one UNet evaluation a step, so that a plan can count evaluations without loading anything.
SAMPLERS: dict[str, tuple[str, dict[str, str | bool]]] = {
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M SDE Karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DDIM": ("DDIMScheduler", {}),
}
Sampler = Literal["DPM++ 2M Karras", "DPM++ 2M", "DPM++ 2M SDE Karras", "Euler", "Euler a", "UniPC", "DDIM"]
