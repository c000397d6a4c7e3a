"""Another VAE than the model's own: a folder or a single file, and whether its latents are this model's at all.

A Stable Diffusion 1.x VAE has the very same tensors as SDXL's. It loads without any error and gives wrong pictures, so it has
to be recognised: by its config, by its digest, or, where neither tells, by what it makes of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import CorruptWeights, MissingWeights, WrongVAE
from workbench.files import file_sha256, hash_json

from .checkpoints import Checkpoint, from_folder, from_tensors, hash_of, parameters_in
from .converting import converted
from .finding import check_no_pickle
from .headers import read_header
from .loading import loading, whole
from .parts import network_files, read_json, weight_files
from .recognition import VAE, kind_of_file, kind_of_folder

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

SD1_SCALING_FACTOR = 0.18215
NEEDED = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
USE = "use a VAE made for this model (for SDXL: sdxl-vae or sdxl-vae-fp16-fix), or leave vae empty"
SIDE, ALIKE = 128, 0.9  # px of the picture, and the correlation of latents, by which two VAEs are held for alike

# sha256 of published files, each seen in several public lists
SD1_FILES = (
    "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",  # vae-ft-mse-840000-ema-pruned.safetensors
    "c6a580b13a5bc05a5e16e4dbb80608ff2ec251a162311590c1f34c013d7f3dab",  # vae-ft-mse-840000-ema-pruned.ckpt
    "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",  # the same in diffusers format
    "95f26a5ab04779d5467d1fcecaf93160ffa523afe399b835b3e1bb77ff2d937a",  # vae-ft-ema-560000-ema-pruned.safetensors
    "0b204ad0cae549e0a7e298d803d57e36363760dec71c63109c1da3e1147ec520",  # vae-ft-ema-560000-ema-pruned.ckpt
    "32db726da04f06c1b6b14c0043ce115cc87a501482945c5add89a40d838fcb46",  # the same in diffusers format
)
SDXL_FILES = (
    "63aeecb90ff7bc1c115395962d3e803571385b61938377bc7089b36e81e92e2e",  # sdxl_vae.safetensors
    "1598f3d24932bcfe6634e8b618ea1e30ab1d57f5aad13a6d2de446d2199f2341",  # SDXL 1.0's own, in diffusers format
    "e6bb9ea85bbf7bf6478a7c6d18b71246f22e95d41bcdd80ed40aa212c33cfeff",  # SDXL 0.9's
)
FP16_FIX_FILES = (  # they do not overflow in float16
    "235745af8d86bf4a4c1b5b4f529868b37019a10f7c0b2e79ad0abca3a22bc6e1",  # sdxl-vae-fp16-fix, sdxl.vae.safetensors
    "1b909373b28f2137098b0fd9dbc6f97f8410854f31f84ddc9fa04b077b0ace2c",  # the same in diffusers format
)


class VaeSource:
    """A VAE that is named in `vae`.

    Attributes:
        path: its folder (that which has config.json) or its file.

    Raises:
        MissingWeights, CorruptWeights.
        WrongModel: it is no VAE, or a pickle.
        WrongVAE: it is known to be of Stable Diffusion 1.x, or of another number of channels.
    """

    def __init__(self, path: Path) -> None:
        inside = path / "vae"
        self.path = inside if path.is_dir() and not (path / "config.json").exists() and inside.is_dir() else path
        self._check_digest()
        if self.path.is_file():
            self._check_file()
        elif not (self.path / "config.json").is_file():
            raise MissingWeights(
                f"the VAE {self.path} has no config.json; put the whole folder there, or name a .safetensors file."
            )
        elif kind_of_folder(self.path)[0] != "vae":
            raise WrongVAE(f"{self.path} is {kind_of_folder(self.path)[1].rstrip('.')}, and no VAE; {USE}.")

    def _check_digest(self) -> None:
        """Also of a pickle: which VAE it is says more than that it is a pickle."""
        if any(file_sha256(file) in SD1_FILES for file in self.weights()):
            raise WrongVAE(f"the VAE {self.path} is Stable Diffusion 1.x's, whose latents are not SDXL's; {USE}.")

    def _check_file(self) -> None:
        check_no_pickle(self.path)
        header = read_header(self.path)
        kind, said = kind_of_file(header)
        if kind != "vae":
            raise WrongVAE(f"{self.path} is {said.rstrip('.')}, and no VAE; {USE}.")
        first = next((t for name, t in header.tensors.items() if name.endswith("decoder.conv_in.weight")), None)
        if first and first.shape[1] != 4:
            raise WrongVAE(f"the VAE {self.path} has {first.shape[1]} latent channels, SDXL has 4; {USE}.")

    def weights(self) -> list[Path]:
        """Its files."""
        if self.path.is_file():
            return [self.path]
        return [file for file in weight_files(self.path) if file.suffix != ".json"] if self.path.is_dir() else []

    @property
    def _prefix(self) -> str:
        return VAE if read_header(self.path).has(VAE) else ""

    @property
    def known(self) -> bool:
        """Whether it is one of SDXL's, by its digest."""
        return all(file_sha256(file) in SDXL_FILES + FP16_FIX_FILES for file in self.weights())

    @property
    def scaling_factor(self) -> float | None:
        """What its config says; None of a file, which has no config. Raises `CorruptWeights`."""
        if self.path.is_file():
            return None
        return float(read_json(self.path / "config.json").get("scaling_factor", SD1_SCALING_FACTOR))

    def identity(self) -> str:
        """Hash of what is read. Raises `CorruptWeights`."""
        if self.path.is_file():
            return hash_json([file_sha256(self.path)])
        return hash_of(self.path, network_files(self.path))

    def parameters(self) -> int:
        """How many numbers it holds."""
        return read_header(self.path).parameters() if self.path.is_file() else parameters_in(self.path)

    def check_config(self, own: Checkpoint) -> None:
        """Raise `WrongVAE` where its config says that its latents are not those of the model `own`. A file has no config."""
        if self.path.is_dir():
            check_vae(self.path, own.config("vae"), read_json(self.path / "config.json"))

    def load(self, own: Checkpoint, dtype: torch.dtype) -> AutoencoderKL:
        """The VAE, for the model `own`, whose config counts where it is a single file, which has none.

        Raises:
            CorruptWeights, OutOfMemory.
            WrongVAE: it does not belong to the model.
        """
        self.check_config(own)
        if self.path.is_dir():
            found: Any = from_folder(self.path, "vae", dtype)
        else:
            found = loading(self.path, lambda: self._from_file(own, dtype))
            whole(self.path, "vae", found)
        if self.known or not self._weights_unlike(own):
            return found
        if own.has("vae"):
            check_latents(self.path, found, own)
        elif self.path.is_file():  # a folder's config has said that it fits
            raise WrongVAE(
                f"the VAE {self.path} is not known, and {own.path} has no VAE of its own to compare it with, so nothing here "
                "can tell whether it is SDXL's or Stable Diffusion 1.x's; use sdxl_vae.safetensors or sdxl-vae-fp16-fix."
            )
        return found

    def _from_file(self, own: Checkpoint, dtype: torch.dtype) -> AutoencoderKL:
        read = converted(self.path, read_header(self.path).names(self._prefix), dtype)
        tensors = {name.removeprefix(VAE): tensor for name, tensor in read.items()}
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(NEEDED)}
        changes = {"force_upcast": False} if file_sha256(self.path) in FP16_FIX_FILES else {}
        where: dict[str, Any] = {"config": str(own.configs), "subfolder": "vae", "local_files_only": True}
        return from_tensors(self.path, "vae", tensors, dtype=dtype, **where, **changes)

    def _weights_unlike(self, own: Checkpoint) -> bool:
        """Whether its files are others than those of the model's own VAE."""
        mine = {file_sha256(file) for file in self.weights()}
        folder = own.path / "vae"
        theirs = {file_sha256(file) for file in weight_files(folder)} if folder.is_dir() else set()
        return not mine <= theirs


def check_own(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint's own VAE that is known to be of Stable Diffusion 1.x: copied into the folder of an SDXL, it loads.

    Raises `WrongVAE`, `CorruptWeights`.
    """
    factor = checkpoint.config("vae").get("scaling_factor", SD1_SCALING_FACTOR)
    folder = checkpoint.path / "vae"
    files = weight_files(folder) if folder.is_dir() else []
    if factor == SD1_SCALING_FACTOR or any(file_sha256(file) in SD1_FILES for file in files):
        raise WrongVAE(
            f"{checkpoint.path} has a Stable Diffusion 1.x VAE (scaling_factor {factor}), whose latents are not SDXL's; put "
            "SDXL's own back, or name one in vae (sdxl_vae.safetensors or sdxl-vae-fp16-fix)."
        )


def check_vae(folder: Path, own: Mapping[str, object], other: Mapping[str, object]) -> None:
    """Refuse a VAE whose config is of another family.

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
            raise WrongVAE(f"the VAE {folder} has {name} {there}{hint}, the model needs {here}; {USE}.")


def check_latents(path: Path, other: Any, own: Checkpoint) -> None:
    """Refuse a VAE that makes other latents of a picture than the model's own does. Raises `WrongVAE`, `CorruptWeights`.

    Two trainings of one architecture share no latent space: their latents of one picture are not correlated, while a VAE with
    a fine-tuned decoder, or SDXL's mended for float16, has nearly those of SDXL's.
    """
    import numpy as np
    import torch

    ours: Any = own.network("vae", torch.float32)
    kind = other.dtype
    latents = []
    try:
        for vae in (ours, other.to(dtype=torch.float32)):
            with torch.no_grad():
                latents.append(vae.encode(_picture()).latent_dist.mode().flatten().numpy())
    except RuntimeError as error:
        raise CorruptWeights(f"{path} cannot encode a picture ({str(error)[:160]}); fetch it again.") from error
    finally:
        other.to(dtype=kind)
    likeness = float(np.corrcoef(*latents)[0, 1])
    if not likeness > ALIKE:
        raise WrongVAE(
            f"the VAE {path} is none for this model: of one picture its latents and those of the model's own VAE correlate "
            f"by {likeness:.2f}, where the same VAE has 1.00 (a Stable Diffusion 1.x VAE loads into SDXL without an error, "
            f"and gives wrong pictures); {USE}."
        )


def _picture() -> torch.Tensor:
    """(1, 3, 128, 128) in -1 .. 1: discs of several colours on a slope of grey, with texture; always the same."""
    import numpy as np
    import torch

    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    planes = [0.6 * x - 0.3 + 0.2 * np.sin(40 * y + channel) for channel in range(3)]
    for place, (row, column, radius) in enumerate([(0.3, 0.3, 0.2), (0.65, 0.6, 0.25), (0.25, 0.8, 0.12)]):
        inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
        for channel in range(3):
            planes[channel] = np.where(inside, 0.8 if channel == place else -0.5, planes[channel])
    return torch.from_numpy(np.stack(planes)[None].astype(np.float32))
