"""What a `.safetensors` file says of itself in its first kilobytes: its tensors' names, types and shapes, and its metadata.

Only that is read, so that a file of 7 GB is as quick as a small one. Needs no torch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from workbench.errors import CorruptWeights

CUT_SHORT = "file not fully covered"  # safetensors' own words


@dataclass(frozen=True)
class Tensor:
    """Attributes: dtype: as the format has it ("F16", "F32", "BF16", "F8_E4M3"); shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """Attributes: tensors: {name: tensor}; metadata: {name: text}, often empty."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def parameters(self, prefix: str = "") -> int:
        """How many numbers the tensors hold whose names begin with `prefix`."""
        return sum(tensor.numbers for name, tensor in self.tensors.items() if name.startswith(prefix))

    def names(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, sorted."""
        return sorted(name for name in self.tensors if name.startswith(prefix))

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.tensors)


def read_header(path: Path) -> Header:
    """The header of a file. Raises `CorruptWeights` where the file is cut short or is no `.safetensors`."""
    try:
        stat = path.stat()
    except OSError as error:
        raise CorruptWeights(f"{path} cannot be read ({error.strerror}); check the file and its permissions.") from None
    return _header(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _header(path: Path, size: int, changed: int) -> Header:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            tensors = {name: Tensor(s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
            return Header(tensors, dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        if CUT_SHORT in str(error):
            raise CorruptWeights(
                f"{path} is cut short: it holds {size} bytes, fewer or more than its header says; download it again."
            ) from None
        if isinstance(error, OSError) and error.errno:
            raise CorruptWeights(f"{path} cannot be read ({error.strerror}); check its permissions.") from None
        raise CorruptWeights(f"{path} is no .safetensors file ({_words(path, size)}).") from None


def tensors_sha256(path: Path) -> str:
    """sha256 (hex) of all behind the header: what A1111 and Civitai know a LoRA by, whatever its metadata says."""
    stat = path.stat()
    return _tensors_sha256(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=64)
def _tensors_sha256(path: Path, size: int, changed: int, moved: int) -> str:
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _words(path: Path, size: int) -> str:
    """What it may be instead."""
    if not size:
        return "it is empty; download it again"
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself; fetch it with git lfs pull"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return "it is a pickle of PyTorch under another name; save it as .safetensors"
    if start.startswith(b"GGUF"):
        return "it is a GGUF file, which is quantised; take the .safetensors"
    if start.lstrip()[:1] == b"<":
        return "it is a web page; the download was refused, perhaps for want of a login"
    return "its header cannot be read; download it again"
