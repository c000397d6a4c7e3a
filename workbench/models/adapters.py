"""LoRAs in the networks of a pipeline, as diffusers and peft put them there: beside the weights, never merged into them.

So another weight of a LoRA, or none, needs no loading: the layers multiply by it at every call.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from workbench.errors import OutOfMemory, WrongModel

from .loading import loading
from .loras import LoraFile
from .placing import is_empty

if TYPE_CHECKING:
    import torch
    from torch import nn

NETWORKS = ("unet", "text_encoder", "text_encoder_2")
KEPT = 8  # LoRAs that stay loaded in a network, 0.1 to 0.9 GB each

Active = tuple[tuple[str, float], ...]


class Adapters:
    """Which LoRAs each network has loaded, and which of them act.

    By network, not by pipeline: a base and what refines may share some of theirs.
    """

    def __init__(self) -> None:
        self._loaded: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()  # names of adapters, oldest first
        self._active: WeakKeyDictionary[nn.Module, Active | None] = WeakKeyDictionary()  # None: not known

    def use(self, pipe: Any, loras: Sequence[LoraFile]) -> None:
        """Let these LoRAs, and no others, act in a pipeline's networks; what is not loaded yet is loaded.

        Networks that are off the CPU, and so empty, are left out: this is called again before they are used.

        Raises `CorruptWeights`, `OutOfMemory`; `WrongModel` where a LoRA does not fit the networks.
        """
        networks = [network for name in NETWORKS if (network := _there(pipe, name)) is not None]
        wanted: Active = tuple((_adapter(lora), lora.weight) for lora in loras)
        if all(self._active.get(network, ()) == wanted for network in networks):
            return
        for lora in loras:
            if not all(_adapter(lora) in self._loaded.get(network, ()) for network in networks):
                self._load(pipe, lora, [name for name, _ in wanted])
        for network in networks:
            self._activate(network, wanted)

    def _load(self, pipe: Any, lora: LoraFile, needed: Sequence[str]) -> None:
        name = _adapter(lora)
        state, alphas, metadata = loading(lora.path, lambda: _state(pipe, lora))
        for part in NETWORKS:
            network = _there(pipe, part)
            if network is None or name in self._loaded.setdefault(network, []):
                continue
            self._make_room(network, needed)
            self._active[network] = None  # what is loaded acts until something else is said
            own = {key: tensor for key, tensor in state.items() if key.startswith(f"{part}.")}
            if own:
                try:
                    loading(lora.path, lambda p=part, n=network: _inject(p, n, state, alphas, metadata, name))
                    _check_whole(lora, part, network, name, len(own))
                except BaseException as error:
                    _delete(network, name)
                    if isinstance(error, OutOfMemory | KeyboardInterrupt | WrongModel):
                        raise
                    said = " ".join(str(error.__cause__ or error).split())
                    raise WrongModel(
                        f"{lora.path} does not fit the {part} of this model ({said[:160]}); it was made for another one."
                    ) from error
            self._loaded[network].append(name)

    def _make_room(self, network: nn.Module, needed: Sequence[str]) -> None:
        for name in [name for name in self._loaded[network] if name not in needed][: -KEPT or None]:
            _delete(network, name)
            self._loaded[network].remove(name)

    def _activate(self, network: nn.Module, wanted: Active) -> None:
        from diffusers.utils.peft_utils import set_adapter_layers, set_weights_and_activate_adapters
        from peft.tuners.lora import LoraLayer

        before = self._active.get(network, ())
        if before == wanted:
            return
        there = [(name, weight) for name, weight in wanted if name in getattr(network, "peft_config", {})]
        if there and before and [name for name, _ in before] == [name for name, _ in wanted]:
            # only weights have changed, as between the cells of an axis: 0.02 to 0.06 s of SDXL in place of 0.23
            layers: list[Any] = [layer for layer in network.modules() if isinstance(layer, LoraLayer)]
            for layer in layers:
                for name, weight in there:
                    if name in layer.scaling:
                        layer.set_scale(name, weight)
        elif there:
            set_adapter_layers(network, enabled=True)
            set_weights_and_activate_adapters(network, [name for name, _ in there], [weight for _, weight in there])
        else:
            set_adapter_layers(network, enabled=False)
        self._active[network] = wanted


def _there(pipe: Any, name: str) -> Any:
    """A pipeline's network; None where it has none of that name, or that is empty."""
    network = getattr(pipe, name, None)
    return None if network is None or is_empty(network) else network


def _adapter(lora: LoraFile) -> str:
    """peft's name of it, which may have no dot in it. Another file under the same path is another adapter."""
    return f"lora_{lora.digest[:24]}"


def _state(pipe: Any, lora: LoraFile) -> tuple[dict[str, torch.Tensor], dict[str, float] | None, dict[str, Any] | None]:
    """(tensors under diffusers' names, kohya's alphas, diffusers' own metadata with rank and alpha) of a LoRA."""
    from diffusers import StableDiffusionXLPipeline

    made: Any = StableDiffusionXLPipeline
    how: dict[str, Any] = {"unet_config": pipe.unet.config, "local_files_only": True, "use_safetensors": True}
    return made.lora_state_dict(str(lora.path), return_lora_metadata=True, **how)


def _inject(part: str, network: Any, state: Any, alphas: Any, metadata: Any, name: str) -> None:
    from diffusers import StableDiffusionXLPipeline

    warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several LoRAs are meant
    made: Any = StableDiffusionXLPipeline
    how: dict[str, Any] = {"network_alphas": alphas, "metadata": metadata, "adapter_name": name}
    how["low_cpu_mem_usage"] = True
    if part == "unet":
        made.load_lora_into_unet(state, unet=network, **how)
        return
    log = logging.getLogger("transformers.integrations.peft")
    level = log.level
    # of a second LoRA it says that the first one's tensors are "newly initialized"; they are not
    log.setLevel(logging.ERROR)
    try:
        made.load_lora_into_text_encoder(state, text_encoder=network, prefix=part, **how)
    finally:
        log.setLevel(level)


def _check_whole(lora: LoraFile, part: str, network: nn.Module, name: str, tensors: int) -> None:
    """Raise `WrongModel` where a tensor of the file found no layer: diffusers leaves it out with a warning."""
    from peft.tuners.lora import LoraLayer

    layers = [layer for layer in network.modules() if isinstance(layer, LoraLayer) and name in layer.lora_A]
    if 2 * len(layers) != tensors:
        raise WrongModel(
            f"{lora.path} has {tensors} tensors for the {part}, of which {2 * len(layers)} find a layer here; it was made "
            "for another model."
        )


def _delete(network: Any, name: str) -> None:
    from diffusers.utils.peft_utils import delete_adapter_layers

    delete_adapter_layers(network, name)
    if name in getattr(network, "peft_config", {}):
        network.peft_config.pop(name)
