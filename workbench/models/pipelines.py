"""The SDXL base and refiner as diffusers pipelines, and their samplers."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from workbench.errors import CorruptWeights, MissingWeights, SettingsError

from . import hardware
from .checkpoints import TOKENIZERS, Checkpoint
from .loading import loading
from .memory import kind_of
from .placing import Placement
from .samplers import ALIGN_YOUR_STEPS, SAMPLERS, SIGMAS, SPACINGS
from .sdxl import Sdxl
from .vaes import check_own

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
    from diffusers.configuration_utils import FrozenDict

AnyPipeline = TypeVar("AnyPipeline", bound="DiffusionPipeline")

Report = Callable[[str, int, int], None]
"""`report(stage, done, total)`, called within every denoising step, face and tile; what it raises stops the work there."""


class Sampling(Protocol):
    """What all of diffusers' schedulers have in common, which their base class does not say.

    Attributes:
        config: betas, spacing and the like.
        timesteps: (steps,), once `set_timesteps` has been called.
        order: UNet evaluations a step.
    """

    config: FrozenDict
    timesteps: torch.Tensor
    order: int

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None: ...

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor: ...

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor: ...

    def step(
        self, model_output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, **arguments: object
    ) -> tuple[torch.Tensor, ...]: ...


def load_base(sdxl: Sdxl, at: Placement | None = None) -> StableDiffusionXLPipeline:
    """The SDXL base with the scheduler that it was published with, its networks where `at` has them, else on the device.

    Raises:
        MissingWeights, CorruptWeights, OutOfMemory.
        WrongModel: the model is of another kind.
        WrongVAE: the other VAE is not for this model.
    """
    from diffusers import StableDiffusionXLPipeline

    checkpoint, at = sdxl.base, at or Placement()
    parts = _networks(checkpoint, sdxl, [n for n in checkpoint.networks if n != "vae"], at, "base")
    parts["vae"] = _vae(checkpoint, sdxl, at, "base")
    return _ready(StableDiffusionXLPipeline, checkpoint, sdxl, parts)


def load_refiner(
    sdxl: Sdxl, base: StableDiffusionXLPipeline, at: Placement | None = None
) -> StableDiffusionXLImg2ImgPipeline:
    """What refines, as `load_base`; `at`: what that was given. Where it is the base itself, its pipeline has the base's very
    networks.

    Of another checkpoint, the second text encoder and the VAE are the base's objects where they are equal to the last bit:
    1.5 GiB in float16 that are not loaded twice. Raises as `load_base` does.
    """
    from diffusers import StableDiffusionXLImg2ImgPipeline

    other = sdxl.other
    if other is None:
        if at:
            for name in sdxl.base.networks:
                at.share(getattr(base, name), ("refiner", kind_of(name)))
        parts: dict[str, Any] = {**base.components, "scheduler": sdxl.base.scheduler()}
        return _ready(StableDiffusionXLImg2ImgPipeline, sdxl.base, sdxl, parts)
    shared = {name for name in ("text_encoder", "text_encoder_2") if name in other.networks and sdxl.shares(name)}
    shared |= {"vae"} if sdxl.vae or sdxl.shares("vae") else set()
    parts = {name: getattr(base, name) for name in shared}
    if at:
        for name, network in parts.items():
            at.share(network, ("refiner", kind_of(name)))
    at = at or Placement()
    parts |= _networks(other, sdxl, [n for n in other.networks if n != "vae" and n not in shared], at, "refiner")
    if "vae" not in shared:
        parts["vae"] = _vae(other, sdxl, at, "refiner")
    return _ready(StableDiffusionXLImg2ImgPipeline, other, sdxl, parts)


def _networks(checkpoint: Checkpoint, sdxl: Sdxl, names: Sequence[str], at: Placement, part: str) -> dict[str, Any]:
    """One after the other: the CPU's memory has to hold the largest beside those that stay there, not all of them."""
    dtype = hardware.dtype(sdxl.dtype)

    def place(name: str) -> Any:
        load = partial(checkpoint.network, name, dtype)
        return at.add((part, kind_of(name)), load, checkpoint.weights(name))

    return {name: loading(checkpoint.path, partial(place, name)) for name in names}


def _vae(checkpoint: Checkpoint, sdxl: Sdxl, at: Placement, part: str) -> AutoencoderKL:
    """The VAE that is named, else the checkpoint's own."""
    dtype = hardware.dtype(sdxl.dtype)
    if given := sdxl.given_vae:
        files, load = given.weights(), partial(given.load, checkpoint, dtype)
    else:
        if not checkpoint.has("vae"):
            raise MissingWeights(
                f"{checkpoint.path} has no VAE of its own; name one in vae (sdxl_vae.safetensors or sdxl-vae-fp16-fix)."
            )
        check_own(checkpoint)
        files, load = checkpoint.weights("vae"), partial(checkpoint.network, "vae", dtype)
    vae = cast("AutoencoderKL", loading(checkpoint.path, lambda: at.add((part, "vae"), load, files)))
    if sdxl.tiled:
        vae.enable_tiling()
    return vae


def _ready(made_by: type[AnyPipeline], checkpoint: Checkpoint, sdxl: Sdxl, parts: dict[str, Any]) -> AnyPipeline:
    """The pipeline of these networks, with the checkpoint's tokenizers, scheduler and own settings."""
    cls: Any = made_by
    refines = cls.__name__ == "StableDiffusionXLImg2ImgPipeline"
    own: dict[str, Any] = {name: checkpoint.tokenizer(name) for name in TOKENIZERS if name in checkpoint.parts}
    own |= {"scheduler": checkpoint.scheduler()}
    nothing = dict.fromkeys(("text_encoder", "tokenizer"))
    flags = {"force_zeros_for_empty_prompt": checkpoint.flag("force_zeros_for_empty_prompt", True)}
    if refines:
        flags["requires_aesthetics_score"] = checkpoint.flag("requires_aesthetics_score", False)
    # without add_watermarker=False the pixels would depend on whether invisible-watermark is installed
    made = {**nothing, **own, **parts}
    pipe: AnyPipeline = loading(checkpoint.path, lambda: cls(**made, **flags, add_watermarker=False))
    _check_dtype(pipe, checkpoint, hardware.dtype(sdxl.dtype))
    _check_widths(pipe, checkpoint)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _check_dtype(pipe: DiffusionPipeline, checkpoint: Checkpoint, wanted: torch.dtype) -> None:
    """diffusers before 0.40 took no notice of `dtype`: float32 pictures under the keys of float16 ones."""
    if other := [name for name, part in pipe.components.items() if getattr(part, "dtype", wanted) != wanted]:
        raise CorruptWeights(
            f"{checkpoint.path} was to be loaded in {wanted}, but its {other[0]} is {pipe.components[other[0]].dtype}; "
            "install diffusers 0.40 and transformers 5 or newer."
        )


def _check_widths(pipe: DiffusionPipeline, checkpoint: Checkpoint) -> None:
    """Raise `CorruptWeights` where the text encoders do not give what the UNet takes: 768 + 1280 features in SDXL."""
    parts = pipe.components
    given = sum(
        parts[name].config.hidden_size for name in ("text_encoder", "text_encoder_2") if parts[name] is not None
    )
    if given != (taken := parts["unet"].config.cross_attention_dim):
        raise CorruptWeights(
            f"{checkpoint.path}: its text encoders give {given} features, its UNet takes {taken}; they are not of one model."
        )


def make_scheduler(sampler: str, schedule: str, config: Mapping[str, object], seed: int = 0) -> Sampling:
    """A fresh scheduler for one of `SAMPLERS` with one of its schedules, on the model's own scheduler config.

    `seed`: of the noise of a sampler that draws it from a generator of its own (DPM++ SDE).
    """
    import diffusers

    kind = SAMPLERS[sampler]
    made = getattr(diffusers, kind.scheduler)
    taken = inspect.signature(made.__init__).parameters
    # each class warns of what only another one takes; under "_" is what was left at its default, and may differ in this one
    known = {name: value for name, value in config.items() if name in taken or name.startswith("_")}
    if schedule != "auto":  # what is asked for is not mixed with what the model's own config says
        known |= dict.fromkeys((name for name in SIGMAS if name in taken), False)
    if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in taken:
        raise SettingsError(
            f"the model was trained down to zero terminal SNR, which the sampler '{sampler}' of diffusers does not do; use "
            "another one, like Euler."
        )
    # torchsde's rounding: "Should have tb<=t1 but got tb=5.1344337 and t1=5.134433"
    warnings.filterwarnings("ignore", message="Should have t[ab]", category=UserWarning)
    own = {"noise_sampler_seed": seed} if "noise_sampler_seed" in taken else {}
    return made.from_config(known, **kind.changes, **SPACINGS[schedule], **own)


def set_steps(scheduler: Sampling, schedule: str, steps: int, device: torch.device | str) -> None:
    """Divide the schedule into steps."""
    if schedule != ALIGN_YOUR_STEPS:
        scheduler.set_timesteps(steps, device=device)
        return
    own: Any = scheduler
    own.set_timesteps(timesteps=_aligned(own.alphas_cumprod, steps), device=device)


def _aligned(alphas: torch.Tensor, steps: int) -> list[int]:
    """Align Your Steps' timesteps for SDXL (Sabour et al. 2024): the ten that are published, else as its authors do it, the
    logarithms of their noise levels interpolated linearly.

    `alphas`: (1000,), cumulative products of the model.
    """
    import numpy as np
    from diffusers.schedulers import AysSchedules

    published: Any = AysSchedules["StableDiffusionXLTimesteps"]
    if steps == len(published):
        return list(published)
    levels = np.log(((1 - alphas) / alphas).cpu().numpy() ** 0.5)
    known = [*levels[published], levels[0]]
    wanted = np.interp(np.linspace(0, 1, steps + 1), np.linspace(0, 1, len(known)), known)[:-1]
    return [int(t) for t in np.interp(wanted, levels, np.arange(len(levels))).round()]
