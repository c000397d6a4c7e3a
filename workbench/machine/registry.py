"""Every weight that the pipeline can use and that does not come in a package: where it is published, how large, its licence.

Sizes and sha256 are those of public lists of these files; "" or None where none was found. TAESDXL, ParseNet and ArcFace are
not here, since nothing in the workbench loads them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import MissingWeights, UsageError
from workbench.models import (
    LICENCES,
    RESTORER_FILES,
    model_path,
    models_folder,
    restorer_path,
    upscaler_path,
    vae_path,
)
from workbench.settings import Settings, knobs, stages

GITHUB = "https://github.com"
TORCH = "https://download.pytorch.org/models"


@dataclass(frozen=True)
class WeightFile:
    """A file of a weight.

    Attributes:
        name: its path within the repository and on the disk.
        bytes: its size; None where it is not known.
        digest: sha256 of its content (hex), or its first digits where no more are published; of a small file in a hub
            repository git's sha1 of it, which has 40 digits; "" where none is known.
    """

    name: str
    bytes: int | None = None
    digest: str = ""


@dataclass(frozen=True)
class Weight:
    """A weight: one file, or a folder of them.

    Attributes:
        name: as commands take it.
        about: what it is.
        used_as: the settings that load it, (name, value) each.
        licence: in words.
        place: its file or folder under the models folder; of LPIPS's backbone, in torch's own.
        files: those that are loaded; () where only the hub can say.
        repo, revision: of a hub repository; "" of a file at a URL.
        url: of the one file.
        single: the same as one file, as A1111 and ComfyUI have it, where it is loaded from there as well.
    """

    name: str
    about: str
    used_as: tuple[tuple[str, str], ...]
    licence: str
    place: str
    files: tuple[WeightFile, ...] = ()
    repo: str = ""
    revision: str = ""
    url: str = ""
    single: WeightFile | None = None

    @property
    def bytes(self) -> int | None:
        """Of its files, as far as they are known: configs of a few KB may be left out; None where nothing is known."""
        return sum(file.bytes or 0 for file in self.files) or None

    @property
    def needed_by(self) -> str:
        """What loads it, in words."""
        return NEEDED_BY.get(self.name) or " or ".join(f"{name} '{value}'" for name, value in self.used_as)

    @property
    def source(self) -> str:
        """Where it is published, in words."""
        return f"{self.repo} at {self.revision[:7]}" if self.repo else self.url

    def path(self) -> Path:
        """Its file or folder on this machine, there or not."""
        return (torch_folder() if self.url.startswith(TORCH) else models_folder()) / self.place

    def file_path(self, file: WeightFile) -> Path:
        """Where one of its files lies, there or not."""
        return self.path() if self.path().name == Path(file.name).name else self.path() / file.name


def torch_folder() -> Path:
    """Where torchvision keeps what it downloads, as `torch.hub.get_dir` has it, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser() / "hub" / "checkpoints"


NEEDED_BY = {
    "sdxl-refiner": "refiner 'sdxl', or model 'sdxl' with refiner 'auto'",
    "lpips-alexnet": "the LPIPS of scores, 'not measured' without it",
}


def _file(url: str, about: str, used_as: tuple[str, ...], licence: str, known: WeightFile) -> Weight:
    """A weight of one file. `used_as`: the settings that take its name; `known`: where it is put, its size and sha256."""
    name = Path(known.name).stem
    inside = WeightFile(url.rpartition("/")[2], known.bytes, known.digest)
    return Weight(name, about, tuple((each, name) for each in used_as), licence, known.name, (inside,), url=url)


ENCODER_2 = WeightFile(
    "text_encoder_2/model.fp16.safetensors",
    1_389_382_176,
    "ec310df2af79c318e24d20511b601a591ca8cd4f1fce1d8dff822a356bcdb1f4",
)
CONFIGS = (
    WeightFile("model_index.json"),
    WeightFile("scheduler/scheduler_config.json"),
    WeightFile("text_encoder_2/config.json"),
    WeightFile("tokenizer_2/merges.txt", 524_619),
    WeightFile("tokenizer_2/special_tokens_map.json"),
    WeightFile("tokenizer_2/tokenizer_config.json"),
    WeightFile("tokenizer_2/vocab.json", 1_059_962),
    WeightFile("unet/config.json"),
    WeightFile("vae/config.json"),
)
BASE = Weight(
    "sdxl-base",
    "SDXL 1.0 base, fp16",
    (("model", "sdxl"),),
    LICENCES["sdxl"],
    "sdxl/base",
    (
        *CONFIGS,
        WeightFile("text_encoder/config.json"),
        WeightFile(
            "text_encoder/model.fp16.safetensors",
            246_144_152,
            "660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
        ),
        ENCODER_2,
        WeightFile("tokenizer/merges.txt", 524_619),
        WeightFile("tokenizer/special_tokens_map.json"),
        WeightFile("tokenizer/tokenizer_config.json"),
        WeightFile("tokenizer/vocab.json", 1_059_962),
        WeightFile(
            "unet/diffusion_pytorch_model.fp16.safetensors",
            5_135_149_760,
            "83e012a805b84c7ca28e5646747c90a243c65c8ba4f070e2d7ddc9d74661e139",
        ),
        WeightFile(
            "vae/diffusion_pytorch_model.fp16.safetensors",
            167_335_342,
            "bcb60880a46b63dea58e9bc591abe15f8350bde47b405f9c38f4be70c6161e68",
        ),
    ),
    repo="stabilityai/stable-diffusion-xl-base-1.0",
    revision="462165984030d82259a11f4367a4eed129e94a7b",
    single=WeightFile(
        "sd_xl_base_1.0.safetensors",
        6_938_078_334,
        "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
    ),
)
REFINER = Weight(
    "sdxl-refiner",
    "SDXL 1.0 refiner, fp16",
    (("refiner", "sdxl"),),
    LICENCES["sdxl"],
    "sdxl/refiner",
    (
        *CONFIGS,
        # no sha256 of these three was found in a public list; the hub tells its own before they are fetched
        WeightFile(ENCODER_2.name, ENCODER_2.bytes),
        WeightFile("unet/diffusion_pytorch_model.fp16.safetensors", 4_519_211_088),
        WeightFile("vae/diffusion_pytorch_model.fp16.safetensors", 167_335_342),
    ),
    repo="stabilityai/stable-diffusion-xl-refiner-1.0",
    revision="5d4cfe854c9a9a87939ff3653551c2b3c99a4356",
    single=WeightFile(
        "sd_xl_refiner_1.0.safetensors",
        6_075_981_930,
        "7440042bbdc8a24813002c09b6b69b64dc90fded4472613437b7f55f9b7d9c5f",
    ),
)
VAE = Weight(
    "sdxl-vae-fp16-fix",
    "SDXL's VAE, made to work in float16",
    (("vae", "sdxl-vae-fp16-fix"),),
    "sdxl-vae-fp16-fix: MIT",
    "sdxl-vae-fp16-fix",
    (
        WeightFile("config.json"),
        WeightFile("diffusion_pytorch_model.safetensors", 334_643_238),
    ),
    repo="madebyollin/sdxl-vae-fp16-fix",
    revision="207b116dae70ace3637169f1ddd2434b91b3a8cd",
)
LIGHTNING = Weight(
    "sdxl-lightning-8step",
    "SDXL-Lightning of 8 steps, one file",
    (("model", "sdxl_lightning_8step"),),
    "SDXL-Lightning: CreativeML Open RAIL++-M",
    "sdxl_lightning_8step.safetensors",
    (WeightFile("sdxl_lightning_8step.safetensors", 6_938_040_682),),  # the size of its 4-step sister
    repo="ByteDance/SDXL-Lightning",
    revision="c9a24f48e1c025556787b0c58dd67a091ece2e44",
)
CODEFORMER = _file(
    f"{GITHUB}/sczhou/CodeFormer/releases/download/v0.1.0/codeformer.pth",
    "CodeFormer, the face restorer",
    ("restorer",),
    LICENCES["codeformer"],
    WeightFile("codeformer.pth", 376_637_898, "1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7"),
)
GFPGAN = _file(
    f"{GITHUB}/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth",
    "GFPGAN 1.4, a face restorer",
    ("restorer",),
    LICENCES["gfpgan"],
    WeightFile(
        "restorers/GFPGANv1.4.pth", 348_632_874, "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad"
    ),
)
RESTOREFORMER = _file(
    f"{GITHUB}/TencentARC/GFPGAN/releases/download/v1.3.4/RestoreFormer.pth",
    "RestoreFormer, a face restorer",
    ("restorer",),
    LICENCES["restoreformer"],
    WeightFile("restorers/RestoreFormer.pth"),
)
DETECTOR = Weight(
    "retinaface_resnet50",
    "RetinaFace ResNet-50, the larger face detector",
    (("detector", "retinaface_resnet50"),),
    "RetinaFace: MIT",
    "detection_Resnet50_Final.pth",
    (
        WeightFile(
            "detection_Resnet50_Final.pth",
            109_497_761,
            "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        ),
    ),
    url=f"{GITHUB}/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth",
)
ENLARGING = ("upscaler", "resampler")
UPSCALERS = (
    _file(
        f"{GITHUB}/xinntao/Real-ESRGAN/releases/download/v0.2.1/RealESRGAN_x2plus.pth",
        "Real-ESRGAN x2",
        ENLARGING,
        LICENCES["realesrgan"],
        WeightFile(
            "upscalers/RealESRGAN_x2plus.pth",
            67_061_725,
            "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        ),
    ),
    _file(
        f"{GITHUB}/xinntao/Real-ESRGAN/releases/download/v0.1.0/RealESRGAN_x4plus.pth",
        "Real-ESRGAN x4; 'realesrgan-x4plus' is the same out of a package",
        ENLARGING,
        LICENCES["realesrgan"],
        WeightFile(
            "upscalers/RealESRGAN_x4plus.pth",
            67_040_989,
            "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        ),
    ),
    _file(
        f"{GITHUB}/xinntao/Real-ESRGAN/releases/download/v0.2.5.0/realesr-general-x4v3.pth",
        "Real-ESRGAN's small general x4",
        ENLARGING,
        LICENCES["realesrgan"],
        WeightFile(
            "upscalers/realesr-general-x4v3.pth",
            4_885_111,
            "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        ),
    ),
)
LPIPS = Weight(
    "lpips-alexnet",
    "AlexNet, the backbone of LPIPS",
    (),
    "torchvision: BSD-3-Clause",
    "alexnet-owt-7be5be79.pth",
    (
        WeightFile("alexnet-owt-7be5be79.pth", None, "7be5be79"),
    ),  # torchvision publishes the first 8 digits, in its name
    url=f"{TORCH}/alexnet-owt-7be5be79.pth",
)

WEIGHTS = (BASE, REFINER, VAE, LIGHTNING, CODEFORMER, GFPGAN, RESTOREFORMER, DETECTOR, *UPSCALERS, LPIPS)
REGISTRY = {weight.name: weight for weight in WEIGHTS}


def weight_named(name: str) -> Weight:
    """A weight of the registry. Raises `UsageError`, which names the nearest."""
    if name in REGISTRY:
        return REGISTRY[name]
    near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.5)
    raise UsageError(
        f"'{name}' is no weight of the registry{f'; did you mean {near[0]}?' if near else '.'} "
        f"There are {', '.join(REGISTRY)}."
    )


def needed(s: Settings) -> list[Weight]:
    """The weights of the registry that settings load, whether or not they are on this machine.

    What is named and in no registry (a fine-tune, a LoRA) is not among them: see `workbench.models.model_path`.
    """
    active = [stages()[name] for name in s.stages]
    names = {name for stage in active for name in (*stage.networks, *stage.settings.model_fields)}
    used = {(name, str(getattr(s, name)).removesuffix(".pth").removesuffix(".safetensors")) for name in names}
    used |= {("refiner", s.model)} if s.refiner == "auto" else set()  # the model's own
    if not any(getattr(stage, "part", "") == "refiner" for stage in active):
        used = {(name, value) for name, value in used if name != "refiner"}
    found = [weight for weight in REGISTRY.values() if used.intersection(weight.used_as)]
    return [weight for weight in found if weight is not CODEFORMER or not _has_own_restorer(s.model)]


def check_known(s: Settings) -> None:
    """Raise `MissingWeights` for a file that settings name and that is neither here nor in the registry, `WrongModel` for one
    that must not be used."""
    of_registry = {value for weight in needed(s) for _, value in weight.used_as}

    def named(value: str) -> bool:
        return value.removesuffix(".pth").removesuffix(".safetensors") in of_registry

    active = {
        name for stage in s.stages for name in (*stages()[stage].networks, *stages()[stage].settings.model_fields)
    }
    looks: dict[str, Callable[[str], object]] = {
        "model": model_path, "refiner": model_path, "vae": vae_path, "restorer": RESTORER_FILES.find,
        "upscaler": upscaler_path, "resampler": upscaler_path,
    }  # fmt: skip
    for name, look in looks.items():
        value = getattr(s, name)
        if name in active and value not in ("auto", "base", *knobs()[name].named) and not named(value):
            try:
                look(value)
            except MissingWeights as error:
                raise MissingWeights(
                    f"{error} Nor is it in the registry; pull it by its hub id or its address."
                ) from None


def _has_own_restorer(model: str) -> bool:
    """Whether CodeFormer comes with the model, as with the embedded one."""
    try:
        return restorer_path(model_path(model)) != CODEFORMER.path()
    except MissingWeights:
        return False
