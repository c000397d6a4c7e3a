"""What every load of weights has in common: one at a time, quiet, and whatever a library trips over is one sentence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from workbench.errors import CorruptWeights, OutOfMemory

from .process import alone

if TYPE_CHECKING:
    from torch import nn

Made = TypeVar("Made")


def loading(path: Path, load: Callable[[], Made], *, networks: bool = True) -> Made:
    """What `load` returns. Whatever it trips over in a file becomes `CorruptWeights`, one sentence that names the path.

    `networks`: whether it builds some; what does not, like a tokenizer, needs no diffusers (2 s to import).
    """
    import torch
    from safetensors import SafetensorError

    try:
        with alone(), _quietly() if networks else nullcontext():
            return load()
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"not enough device memory to load {path}; close other programs that use the device."
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, NotImplementedError, SafetensorError) as error:
        if _interrupted(error):
            raise KeyboardInterrupt from None
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptWeights(
            f"{path} cannot be loaded ({first[:200]}); fetch it again, a file in it is missing or damaged."
        ) from error


def whole(path: Path, name: str, network: nn.Module) -> None:
    """Raise `CorruptWeights` where a tensor of a network was not in the files: diffusers leaves it without memory ("meta").

    Its pictures were NaN, without any exception.
    """
    if missing := [n for n, tensor in network.state_dict().items() if tensor.is_meta]:
        raise lacking(path, name, missing)


def lacking(path: Path, name: str, missing: list[str]) -> CorruptWeights:
    """The error about a network whose tensors are not all there; `missing`: their names, as far as they are known."""
    which = f"{len(missing)} tensors of its {name} ({missing[0]} first)" if missing else f"tensors of its {name}"
    return CorruptWeights(
        f"{path} lacks {which}: it is damaged, or of another architecture than its configs say; fetch it again, or use the "
        "model's diffusers folder."
    )


def _interrupted(error: BaseException) -> bool:
    """Whether a Ctrl-C is behind an error: one that comes while a library reads a file is told as an error of that file."""
    behind = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt) or (behind is not None and _interrupted(behind))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the progress bars of diffusers and transformers, one for each component, which would break a sweep's bar, and
    without diffusers' warning at each `to` that no module was to be kept in float32: []."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
    log = logging.getLogger("diffusers.models.modeling_utils")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        for library, was in zip(libraries, shown, strict=True):
            if was:
                library.enable_progress_bar()
