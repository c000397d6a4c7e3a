"""What the settings of a picture choose of SDXL: which checkpoint makes it, which refines it, which VAE, what precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import MissingWeights
from workbench.files import file_sha256

from . import hardware
from .checkpoints import Checkpoint
from .finding import base_of, model_path, refiner_of, refiner_path, vae_path
from .licences import licence_of
from .vaes import VaeSource

Dtype = Literal["auto", "float16", "bfloat16", "float32"]


@dataclass(frozen=True)
class Sdxl:
    """Attributes: as the settings of the same names; tiled: `vae_tiling`."""

    model: str
    vae: str
    refiner: str
    dtype: str
    tiled: bool = False

    @property
    def base(self) -> Checkpoint:
        """Raises `MissingWeights`, `CorruptWeights`, `WrongModel`."""
        return base_of(self.model)

    @property
    def other(self) -> Checkpoint | None:
        """What refines, where that is not the base itself. Raises as `base` does."""
        return refiner_of(self.model, self.refiner)

    @property
    def given_vae(self) -> VaeSource | None:
        """The VAE that is named; None for the checkpoints' own. Raises `MissingWeights`, `CorruptWeights`, `WrongVAE`."""
        path = vae_path(self.vae)
        return VaeSource(path) if path else None

    def checkpoint(self, part: str) -> Checkpoint:
        """The checkpoint of a part, "base" or "refiner"."""
        return self.base if part == "base" else (self.other or self.base)

    def refiner_path(self) -> Path | None:
        """Where the checkpoint lies that refines; None for the base itself. Opens nothing. Raises `MissingWeights`."""
        return refiner_path(self.model, self.refiner)

    def identity(self, part: str) -> list[str]:
        """What the pixels of a part, "base" or "refiner", depend on: hashes of what is read, and the precision.

        A checkpoint's own VAE is not read where another one is named. Raises `MissingWeights`, `CorruptWeights`,
        `WrongModel`, `WrongVAE`.
        """
        checkpoint, vae = self.checkpoint(part), self.given_vae
        if vae:
            vae.check_config(checkpoint)
        read = [name for name in checkpoint.parts if name != "vae" or not vae]
        how = [hardware.dtype_name(self.dtype), *(["VAE in tiles"] if self.tiled else [])]
        return [checkpoint.identity(read), *([vae.identity()] if vae else []), *how]

    def digest(self, part: str) -> str | None:
        """sha256 of the one file of the checkpoint of a part, as those who publish it say it; of a folder, of what is read of
        it. None where the base refines as well. Raises as `identity`."""
        checkpoint = self.base if part == "base" else self.other
        if checkpoint is None:
            return None
        if checkpoint.path.is_file():
            return file_sha256(checkpoint.path)
        return checkpoint.identity([name for name in checkpoint.parts if name != "vae" or not self.vae])

    def vae_digest(self) -> str | None:
        """Likewise of the VAE that is named; None for the checkpoints' own. Raises as `given_vae`."""
        vae = self.given_vae
        if vae is None:
            return None
        return file_sha256(vae.path) if vae.path.is_file() else vae.identity()

    def shares(self, name: str) -> bool:
        """Whether the refiner's network of that name is the base's to the last bit, so that it is loaded once."""
        other = self.other
        return other is not None and name in other.networks and other.has(name) and other.same(name, self.base)

    def licences(self, part: str) -> list[str]:
        """Of the checkpoint of a part, in words, whether or not it is on this machine."""
        name = self.model if part == "base" or self.refiner in ("auto", "base") else self.refiner
        found = [licence_of(name, _where(name))]
        return [*found, licence_of(self.vae, _where(self.vae))] if self.vae and part == "base" else found


def _where(name: str) -> Path | None:
    try:
        return model_path(name)
    except MissingWeights:
        return None
