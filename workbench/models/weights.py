"""Where the weights are, what they are (by file hash), and how the SDXL pipelines are built from them.

A model is a folder with `base/` and `refiner/` in diffusers format, and `restorer/` with CodeFormer's file. The embedded
model is such a folder inside the package; real SDXL is one that the user has put under `$WORKBENCH_HOME/models`.
"""

from __future__ import annotations

import json
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import CorruptWeights, MissingWeights, OutOfMemory, UsageError, WrongVAE
from workbench.files import file_sha256, hash_json, home

from ..settings import SAMPLERS

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

EMBEDDED = Path(__file__).parent / "embedded"
Report = Callable[[str, int, int], None]
"""`report(stage, done, total)`, called within every denoising step, face and tile; what it raises stops the work there."""

WEIGHT_FILES = (".json", ".txt", ".model", ".safetensors", ".bin", ".pth")
SD1_SCALING_FACTOR = 0.18215
LICENCES = {
    "codeformer": "CodeFormer: S-Lab License 1.0, non-commercial use only",
    "realesrgan": "Real-ESRGAN: BSD-3-Clause",
    "sdxl": "SDXL 1.0 base and refiner: CreativeML Open RAIL++-M",
    "embedded": "embedded model: Apache-2.0, trained here on two public-domain portraits",
}


def models_folder() -> Path:
    return home() / "models"


def model_path(name: str = "embedded") -> Path:
    """Folder (with `base/` and `refiner/` in diffusers format) of a model id: 'embedded', a name under
    `$WORKBENCH_HOME/models`, or a path. Raises `MissingWeights` saying where it was looked for."""
    if name == "embedded":
        folder = EMBEDDED
    elif os.sep in name or name.startswith((".", "~")):
        folder = Path(name).expanduser().resolve()
    else:
        folder = models_folder() / name
    missing = [part for part in ("base", "refiner") if not (folder / part / "model_index.json").exists()]
    if missing:
        raise MissingWeights(
            f"the model '{name}' is not there: {folder} has no {' and no '.join(f'{m}/model_index.json' for m in missing)}; "
            "put the base and the refiner there in diffusers format (README, 'Real weights'), "
            "or use model 'embedded', which needs no download."
        )
    return folder


def restorer_path(model: Path) -> Path:
    """CodeFormer's file: the model folder's own, else the one all models share."""
    shared = models_folder()
    places = [
        model / "restorer" / "codeformer.safetensors",
        model / "restorer" / "codeformer.pth",
        shared / "codeformer.pth",
    ]
    for place in places:
        if place.exists():
            return place
    raise MissingWeights(
        f"CodeFormer's weights are not there; put codeformer.pth into {model / 'restorer'} or {shared}, "
        "or use restorer 'none'."
    )


def detector_path(name: str) -> Path | None:
    """File of a face detector; None for the one whose weights are inside a Python package."""
    if name == "retinaface_mobile0.25":
        return None
    path = models_folder() / "detection_Resnet50_Final.pth"
    if not path.exists():
        raise MissingWeights(
            f"the detector '{name}' is not there; put detection_Resnet50_Final.pth into {models_folder()}, "
            "or use detector 'retinaface_mobile0.25', which is built in."
        )
    return path


def vae_path(name: str) -> Path | None:
    """Folder of another VAE, None for the model's own."""
    if not name:
        return None
    folder = Path(name).expanduser().resolve() if os.sep in name else models_folder() / name
    if not (folder / "config.json").exists():
        raise MissingWeights(
            f"the VAE '{name}' is not there: {folder} has no config.json; leave vae empty for the model's own."
        )
    return folder


def identity(folder: Path) -> str:
    """Hash of what a folder's weight and config files contain (their names and sha256, not their dates)."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in WEIGHT_FILES and p.is_file())
    return hash_json({p.relative_to(folder).as_posix(): file_sha256(p) for p in files})


def device(name: str | None = None) -> torch.device:
    """The device named, else $WORKBENCH_DEVICE, else the first CUDA device, else the CPU. Raises `UsageError`."""
    import torch

    count = gpus()
    name = name or os.environ.get("WORKBENCH_DEVICE") or ("cuda" if count else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        raise UsageError(f"'{name}' is no device; name cpu, cuda or, of several GPUs, cuda:1.") from None
    if found.type == "cuda" and (found.index or 0) >= count:
        raise UsageError(
            f"there is no device {name}: torch sees {count or 'no'} GPU{'s' * (count > 1)} here; name cpu."
        )
    return found


def gpus() -> int:
    """How many CUDA devices torch sees."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def free_memory() -> int | None:
    """Free bytes of the device; None on the CPU, where nothing is gained by batches."""
    import torch

    return torch.cuda.mem_get_info(device())[0] if device().type == "cuda" else None


def usable_memory() -> int | None:
    """Bytes of the device that this process holds or could get; None on the CPU."""
    import torch

    free = free_memory()
    return None if free is None else free + torch.cuda.memory_reserved(device())


def peak_memory() -> int:
    """Most bytes this process has held so far: of the device's memory, on the CPU of the machine's."""
    import torch

    if device().type == "cuda":
        return torch.cuda.max_memory_reserved(device())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def dtype() -> torch.dtype:
    """float16 on a GPU (the VAE upcasts itself where its config asks for it), float32 on the CPU."""
    import torch

    return torch.float16 if device().type == "cuda" else torch.float32


def threads() -> int:
    """CPU threads of torch: $WORKBENCH_THREADS, else 1.

    The number changes the last bits of a picture (1 and 2 threads differ by 1.3e-6 after one UNet call), and on a busy
    2-core machine 2 threads ran 20x slower than 1 (13.3 s for a call of 0.64 s). So it is fixed, and part of every key.
    """
    text = os.environ.get("WORKBENCH_THREADS", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"WORKBENCH_THREADS is '{text}'; it must be a whole number from 1.")
    return int(text)


_pinning = threading.Lock()
_pinned = threading.local()  # .depth: how often this thread is inside
_inside, _own = 0, 1  # threads that are inside; the number that the first of them found


@contextmanager
def pinned_threads() -> Iterator[None]:
    """Run torch on `threads()` threads, and give the process its own number back afterwards.

    Each thread has its own number, but threads to come inherit the one that was set last, by whichever thread.
    """
    import torch

    global _inside, _own
    number, depth = threads(), getattr(_pinned, "depth", 0)
    with _pinning:
        if not depth:
            _own = _own if _inside else torch.get_num_threads()
            _inside += 1
        torch.set_num_threads(number)
    _pinned.depth = depth + 1
    try:
        yield
    finally:
        _pinned.depth = depth
        if not depth:
            with _pinning:
                _inside -= 1
                torch.set_num_threads(_own)


def backend() -> str:
    """Device and precision in words; part of every key, since they change the last bits of a picture."""
    import torch

    where, precision = device(), str(dtype()).removeprefix("torch.")
    if where.type == "cuda":
        return f"{torch.cuda.get_device_name(where)} {precision}"
    return f"{where.type} {precision}, {threads()} thread{'s' * (threads() > 1)}"


def _loading(folder: Path, load: Callable[[], Any]) -> Any:
    """Run a diffusers loader; whatever it trips over in a file becomes one sentence that names the folder."""
    import torch
    from safetensors import SafetensorError

    try:
        with _quietly():
            return load()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"not enough device memory to load {folder}; close other programs that use the device."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptWeights(
            f"{folder} cannot be loaded ({first[:200]}); fetch it again, a file in it is missing or damaged."
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """diffusers and transformers each draw a bar per component, across the one of a sweep."""
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
    """The SDXL base with its own scheduler, on the device. Raises `CorruptWeights`, `WrongVAE`."""
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline

    folder = model / "base"
    own = _loading(folder, lambda: json.loads((folder / "vae" / "config.json").read_text()))
    parts = {}
    if vae is not None:
        other = _loading(vae, lambda: json.loads((vae / "config.json").read_text()))
        check_vae(vae, own, other)
        parts["vae"] = _loading(vae, lambda: AutoencoderKL.from_pretrained(vae, dtype=dtype(), local_files_only=True))
    return _from_pretrained(StableDiffusionXLPipeline, folder, **parts)


def load_refiner(model: Path, base: StableDiffusionXLPipeline) -> StableDiffusionXLImg2ImgPipeline:
    """The refiner, sharing `text_encoder_2` and VAE with the base (1.5 GiB in fp16 that are not loaded twice)."""
    from diffusers import StableDiffusionXLImg2ImgPipeline

    return _from_pretrained(
        StableDiffusionXLImg2ImgPipeline, model / "refiner", text_encoder_2=base.text_encoder_2, vae=base.vae
    )


def _from_pretrained(cls: Any, folder: Path, **parts: Any) -> Any:
    pipe = _loading(
        folder,
        lambda: cls.from_pretrained(
            # without add_watermarker=False the pixels would depend on whether invisible-watermark is installed
            folder, dtype=dtype(), local_files_only=True, add_watermarker=False, **parts
        ).to(device()),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def check_vae(folder: Path, own: dict[str, Any], other: dict[str, Any]) -> None:
    """Refuse a VAE of another family. SD 1.x and SDXL have the same tensors, so it would load and give wrong pictures."""
    for name in ("scaling_factor", "latent_channels"):
        defaults = {"scaling_factor": SD1_SCALING_FACTOR, "latent_channels": 4}
        here, there = own.get(name, defaults[name]), other.get(name, defaults[name])
        if here != there:
            hint = " (that is a Stable Diffusion 1.x VAE)" if there == SD1_SCALING_FACTOR else ""
            raise WrongVAE(
                f"the VAE {folder} has {name} {there}{hint}, the model needs {here}; "
                "use a VAE made for this model (for SDXL: sdxl-vae or sdxl-vae-fp16-fix), or leave vae empty."
            )


def make_scheduler(sampler: str, config: Any) -> Any:
    """A fresh scheduler for `sampler` on the model's own scheduler config (betas, spacing)."""
    import diffusers

    name, changes = SAMPLERS[sampler]
    return getattr(diffusers, name).from_config(config, **changes)


@contextmanager
def out_of_memory(what: str) -> Iterator[None]:
    """Turn torch's error into one that says what was being done and what to change."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(
            f"out of device memory while {what}; lower width, height or hires_scale, or close other programs on the device."
        ) from error
