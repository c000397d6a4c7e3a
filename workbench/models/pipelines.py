"""The SDXL base and refiner as diffusers pipelines, built from a model's folder, and their samplers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from workbench.errors import CorruptWeights, OutOfMemory, WrongVAE

from . import hardware
from .process import alone
from .samplers import SAMPLERS

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
    from diffusers.configuration_utils import FrozenDict

Made = TypeVar("Made")
AnyPipeline = TypeVar("AnyPipeline", bound="DiffusionPipeline")

Report = Callable[[str, int, int], None]
"""`report(stage, done, total)`, called within every denoising step, face and tile; what it raises stops the work there."""

SD1_SCALING_FACTOR = 0.18215


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


def _loading(folder: Path, load: Callable[[], Made]) -> Made:
    """What `load` returns. Whatever it trips over in a file becomes `CorruptWeights`, one sentence that names the folder."""
    import torch
    from safetensors import SafetensorError

    try:
        with alone(), _quietly():
            return load()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"not enough device memory to load {folder}; close other programs that use the device."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        if _interrupted(error):
            raise KeyboardInterrupt from None
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptWeights(
            f"{folder} cannot be loaded ({first[:200]}); fetch it again, a file in it is missing or damaged."
        ) from error


def _interrupted(error: BaseException) -> bool:
    """Whether a Ctrl-C is behind an error: one that comes while a library reads a file is told as an error of that file."""
    behind = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt) or (behind is not None and _interrupted(behind))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress bars of diffusers and transformers, one for each component, which would break a sweep's bar."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, was in zip(libraries, shown, strict=True):
            if was:
                library.enable_progress_bar()


def load_base(model: Path, vae: Path | None = None) -> StableDiffusionXLPipeline:
    """The SDXL base with its own scheduler, on the device.

    Args:
        model: folder that has `base/`.
        vae: folder of another VAE; None for the model's own.

    Raises:
        CorruptWeights, OutOfMemory.
        WrongVAE: the other VAE is not for SDXL.
    """
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline

    folder = model / "base"
    own = _loading(folder, lambda: json.loads((folder / "vae" / "config.json").read_text()))
    parts = {}
    if vae is not None:
        other = _loading(vae, lambda: json.loads((vae / "config.json").read_text()))
        check_vae(vae, own, other)
        parts["vae"] = _loading(
            vae, lambda: AutoencoderKL.from_pretrained(vae, dtype=hardware.dtype(), local_files_only=True)
        )
    return _from_pretrained(StableDiffusionXLPipeline, folder, **parts)


def load_refiner(model: Path, base: StableDiffusionXLPipeline) -> StableDiffusionXLImg2ImgPipeline:
    """The refiner with the base's `text_encoder_2` and VAE: 1.5 GiB in float16 that are not loaded twice.

    Raises `CorruptWeights`, `OutOfMemory`.
    """
    from diffusers import StableDiffusionXLImg2ImgPipeline

    return _from_pretrained(
        StableDiffusionXLImg2ImgPipeline, model / "refiner", text_encoder_2=base.text_encoder_2, vae=base.vae
    )


def _from_pretrained(cls: type[AnyPipeline], folder: Path, **parts: torch.nn.Module) -> AnyPipeline:
    pipe = _loading(
        folder,
        lambda: cls.from_pretrained(
            # without add_watermarker=False the pixels would depend on whether invisible-watermark is installed
            folder, dtype=hardware.dtype(), local_files_only=True, add_watermarker=False, **parts
        ).to(hardware.device()),
    )  # fmt: skip
    wanted = hardware.dtype()
    # diffusers before 0.40 took no notice of `dtype`: float32 pictures under the keys of float16 ones
    if other := [name for name, part in pipe.components.items() if getattr(part, "dtype", wanted) != wanted]:
        raise CorruptWeights(
            f"{folder} was to be loaded in {wanted}, but its {other[0]} is {pipe.components[other[0]].dtype}; install "
            "diffusers 0.40 and transformers 5 or newer."
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def check_vae(folder: Path, own: Mapping[str, object], other: Mapping[str, object]) -> None:
    """Refuse a VAE of another family: a Stable Diffusion 1.x VAE has the same tensors, and would give wrong pictures.

    Args:
        folder: of the other VAE, for the error.
        own, other: the `config.json` of the model's own VAE and of the other one.

    Raises:
        WrongVAE.
    """
    for name in ("scaling_factor", "latent_channels"):
        defaults = {"scaling_factor": SD1_SCALING_FACTOR, "latent_channels": 4}
        here, there = own.get(name, defaults[name]), other.get(name, defaults[name])
        if here != there:
            hint = " (that is a Stable Diffusion 1.x VAE)" if there == SD1_SCALING_FACTOR else ""
            raise WrongVAE(
                f"the VAE {folder} has {name} {there}{hint}, the model needs {here}; "
                "use a VAE made for this model (for SDXL: sdxl-vae or sdxl-vae-fp16-fix), or leave vae empty."
            )


def make_scheduler(sampler: str, config: Mapping[str, object]) -> Sampling:
    """A fresh scheduler for one of `SAMPLERS`, on the model's own scheduler config (betas, spacing)."""
    import diffusers

    name, changes = SAMPLERS[sampler]
    return getattr(diffusers, name).from_config(config, **changes)
