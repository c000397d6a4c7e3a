"""An SDXL on disk, whatever its form: a diffusers folder (plain or fp16 files, whole or sharded), or one `.safetensors` file.

Its parts have diffusers' names: "unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler".
They are loaded one by one, so that a part may come from elsewhere, like the VAE, and nothing else is read or counts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.errors import CorruptWeights, GuidanceEmbedded, MissingWeights, WorkbenchError
from workbench.files import file_sha256, hash_json

from . import vocabulary
from .converting import converted, in_another_precision
from .headers import read_header
from .loading import lacking, loading, whole
from .parts import network_files, read_json, scheduler_files, tokenizer_files, variant_of, weight_files
from .process import alone
from .recognition import (
    FIRST,
    TEXT_1,
    TEXT_2,
    UNET,
    VAE,
    Kind,
    blocks,
    kind_of_file,
    kind_of_folder,
    predicts_v,
    zero_terminal_snr,
)

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import CLIPTokenizer

CONFIGS = Path(__file__).parent / "configs"  # SDXL's own, for files that have none beside them
NETWORKS = ("unet", "text_encoder", "text_encoder_2", "vae")
TOKENIZERS = ("tokenizer", "tokenizer_2")
NO_PART = {"sdxl-refiner": ("text_encoder", "tokenizer")}
UNREAD = ("_name_or_path", "_diffusers_version", "transformers_version", "torch_dtype", "dtype", "architectures")


class Checkpoint(ABC):
    """One SDXL base or refiner.

    Attributes:
        path: of the folder or file.
        kind: as `inspect_model` says it; `said` is the sentence on it.
        configs: a folder that has `unet/config.json`, `vae/config.json` and the like.
    """

    path: Path
    kind: Kind
    said: str
    configs: Path

    @property
    def refines(self) -> bool:
        """Whether it is a refiner, with one text encoder and an aesthetic score."""
        return self.kind == "sdxl-refiner"

    @property
    def parts(self) -> tuple[str, ...]:
        without = NO_PART.get(self.kind, ())
        return tuple(part for part in (*NETWORKS, *TOKENIZERS, "scheduler") if part not in without)

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(part for part in self.parts if part in NETWORKS)

    def config(self, part: str) -> dict[str, Any]:
        """A network's `config.json`. Raises `CorruptWeights`."""
        return read_json(self.configs / part / "config.json")

    def flag(self, name: str, default: bool) -> bool:
        """One of the pipeline's own settings, like `force_zeros_for_empty_prompt`."""
        return bool(read_json(self.configs / "model_index.json").get(name, default))

    def acting(self, part: str) -> dict[str, Any]:
        """Of a network's config what makes pixels, not who wrote it with which version."""
        return {name: value for name, value in self.config(part).items() if name not in UNREAD}

    def scheduler(self) -> Any:
        """The scheduler that the checkpoint was published with: its config is what every sampler starts from."""
        import diffusers

        config = self.scheduler_config()
        made = getattr(diffusers, str(config.get("_class_name")), None)
        if made is None:
            raise CorruptWeights(
                f"{self.path} names the scheduler {config.get('_class_name')}, which diffusers does not have; fetch it again."
            )
        return made.from_config(config)

    def scheduler_config(self) -> dict[str, Any]:
        return read_json(self.configs / "scheduler" / "scheduler_config.json")

    def problem(self) -> WorkbenchError | None:
        """Why it cannot be loaded, as far as headers and configs tell: the error to raise; None where nothing is found."""
        if self.config("unet").get("time_cond_proj_dim") is not None:
            return GuidanceEmbedded(
                f"{self.path}: its UNet takes the guidance scale as an input (an LCM or another distilled model), which the "
                "workbench does not do; use SDXL 1.0 or a model fine-tuned from it."
            )
        return None

    def missing(self) -> WorkbenchError | None:
        """Which file is missing: the error that loading it raises; None where all are there."""
        return None

    @abstractmethod
    def has(self, part: str) -> bool: ...

    @abstractmethod
    def weights(self, part: str) -> list[Path]:
        """The files that a network is read from."""

    @abstractmethod
    def identity(self, parts: Collection[str]) -> str:
        """Hash of what is read when these parts are loaded. Raises `MissingWeights`, `CorruptWeights`."""

    @abstractmethod
    def parameters(self, part: str) -> int:
        """How many numbers a network holds, by the headers of its files; 0 where these do not say."""

    @abstractmethod
    def same(self, part: str, other: Checkpoint) -> bool:
        """Whether a network is the other's, to the last bit. False also where that cannot be seen, in unlike forms."""

    @abstractmethod
    def network(self, part: str, dtype: torch.dtype) -> nn.Module:
        """A network on the CPU, in eval mode. Raises `MissingWeights`, `CorruptWeights`, `OutOfMemory`."""

    @abstractmethod
    def tokenizer(self, part: str) -> CLIPTokenizer: ...


class DiffusersFolder(Checkpoint):
    """A pipeline's folder, with `model_index.json`."""

    def __init__(self, path: Path) -> None:
        self.path = self.configs = path
        self.kind, self.said = kind_of_folder(path)

    @property
    def half(self) -> bool:
        """Whether one of its networks is there in fp16 files only."""
        return any(variant_of(self.path / part) for part in self.networks)

    def missing(self) -> WorkbenchError | None:
        try:
            self.files(self.parts)
        except CorruptWeights as error:
            return error
        return None

    def has(self, part: str) -> bool:
        return (self.path / part).is_dir()

    def files(self, parts: Collection[str]) -> list[Path]:
        """Those that are read when these parts are loaded. Raises `CorruptWeights`: one is missing."""
        found = [self.path / "model_index.json"]
        for part in parts:
            folder = self.path / part
            if part in NETWORKS:
                found += network_files(folder)
            else:
                found += tokenizer_files(folder) if part in TOKENIZERS else scheduler_files(folder)
        return found

    def weights(self, part: str) -> list[Path]:
        return weight_files(self.path / part)

    def identity(self, parts: Collection[str]) -> str:
        return hash_of(self.path, self.files(parts))

    def parameters(self, part: str) -> int:
        return parameters_in(self.path / part)

    def same(self, part: str, other: Checkpoint) -> bool:
        if not isinstance(other, DiffusersFolder) or self.acting(part) != other.acting(part):
            return False
        mine, others = ([f for f in weight_files(c.path / part) if f.suffix != ".json"] for c in (self, other))
        return len(mine) == len(others) and all(
            a.stat().st_size == b.stat().st_size and file_sha256(a) == file_sha256(b)
            for a, b in zip(mine, others, strict=True)
        )

    def network(self, part: str, dtype: torch.dtype) -> nn.Module:
        return from_folder(self.path / part, part, dtype)

    def tokenizer(self, part: str) -> CLIPTokenizer:
        return tokenizer_in(self.path / part)


class SingleFile(Checkpoint):
    """One `.safetensors` file in Stability's layout.

    The configs are SDXL's own. A file whose networks have other sizes has its configs beside it: `face.config/` beside
    `face.safetensors`, a diffusers folder without the weights.
    """

    OWN: ClassVar[str] = ".config"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = read_header(path)
        self.kind, self.said = kind_of_file(self.header)
        own = path.with_suffix(self.OWN)
        self.bundled = not own.is_dir()
        self.configs = CONFIGS / ("refiner" if self.refines else "base") if self.bundled else own

    def prefix(self, part: str) -> str:
        """How the names of a network's tensors begin."""
        second = TEXT_2["refiner" if self.refines else "base"]
        return {"unet": UNET, "vae": VAE, "text_encoder": TEXT_1, "text_encoder_2": second}[part]

    def problem(self) -> WorkbenchError | None:
        try:
            unlike = next((words for words, here, there in self._sizes() if here != there), None)
        except CorruptWeights as error:
            return error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            return CorruptWeights(
                f"the configs in {self.configs} are not those of an SDXL ({error!r}); put its own there."
            )
        if unlike is None:
            return super().problem()
        whose = "SDXL's" if self.bundled else f"{self.configs.name}'s"
        return CorruptWeights(
            f"{self.path} is no SDXL of the usual size: {unlike.format(whose=whose)}; use the model's diffusers folder, or "
            f"put the configs of its networks (that folder without the weights) into {self.path.with_suffix(self.OWN).name} "
            "beside the file."
        )

    def _sizes(self) -> Iterator[tuple[str, object, object]]:
        """(words, what the file has, what its configs say), of what tells an architecture."""
        tensors, unet = self.header.tensors, self.config("unet")

        def size(name: str, axis: int) -> int:
            return tensors[name].shape[axis] if name in tensors else 0

        def compare(what: str, here: int, there: int) -> tuple[str, int, int]:
            return f"it has {here} {what}, {{whose}} {there}", here, there

        yield compare("channels in its UNet's first block", size(FIRST, 0), unet["block_out_channels"][0])
        depths = unet.get("transformer_layers_per_block", 1)
        if not unet.get("reverse_transformer_layers_per_block") and _plain(depths):
            names = self.header.names(UNET)
            inputs = {name.split(".")[3] for name in names if ".input_blocks." in name}
            depth = {name.partition(".attn1.")[0] for name in names if ".attn1." in name}
            expected = blocks(unet["layers_per_block"], unet["down_block_types"], depths)
            yield compare("input blocks in its UNet", len(inputs), expected[0])
            yield compare("transformer blocks in its UNet", len(depth), expected[1])
        embeddings = {
            "text_encoder": ("text_model.embeddings.position_embedding.weight", ".mlp.fc1.weight"),
            "text_encoder_2": ("positional_embedding", ".mlp.c_fc.weight"),
        }
        for part, (position, layer) in embeddings.items():
            if part not in self.networks:
                continue
            config, prefix = self.config(part), self.prefix(part)
            layers = sum(name.endswith(layer) for name in self.header.names(prefix))
            yield compare(f"features in its {part}", size(prefix + position, 1), config["hidden_size"])
            yield compare(f"layers in its {part}", layers, config["num_hidden_layers"])
        if self.has("vae"):
            first = size(VAE + "encoder.conv_in.weight", 0)
            yield compare("channels in its VAE's first block", first, self.config("vae")["block_out_channels"][0])

    def has(self, part: str) -> bool:
        return part not in NETWORKS or self.header.has(self.prefix(part))

    def weights(self, part: str) -> list[Path]:
        return [self.path]

    def identity(self, parts: Collection[str]) -> str:
        networks = [part for part in parts if part in NETWORKS]
        read = [self.configs / "model_index.json", *(self.configs / part / "config.json" for part in networks)]
        folders = [self.configs / part for part in parts if part in TOKENIZERS]
        for folder in folders if not self.bundled else ():
            read += tokenizer_files(folder)
        if "scheduler" in parts:
            read += scheduler_files(self.configs / "scheduler")
        words = vocabulary.vocabulary_sha256() if self.bundled else ""
        return hash_json([file_sha256(self.path), hash_of(self.configs, read), words])

    def parameters(self, part: str) -> int:
        return self.header.parameters(self.prefix(part))

    def same(self, part: str, other: Checkpoint) -> bool:
        if not isinstance(other, SingleFile) or self.acting(part) != other.acting(part):
            return False
        return _outline(self, part) == _outline(other, part) and _section(self, part) == _section(other, part)

    def scheduler_config(self) -> dict[str, Any]:
        config = super().scheduler_config()
        if predicts_v(self.header):
            config["prediction_type"] = "v_prediction"
        if zero_terminal_snr(self.header):
            # the last timestep must be among those that run, as diffusers' documentation of the rescaling says
            config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return config

    def network(self, part: str, dtype: torch.dtype) -> nn.Module:
        if not self.has(part):
            raise MissingWeights(f"{self.path} has no {part}; use the whole checkpoint.")
        return loading(self.path, lambda: self._network(part, dtype))

    def _network(self, part: str, dtype: torch.dtype) -> nn.Module:
        from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

        tensors = converted(self.path, self.header.names(self.prefix(part)), dtype)
        made = network_class(part)
        how: dict[str, Any] = {"config": str(self.configs), "subfolder": part, "local_files_only": True}
        if part in ("unet", "vae"):
            network = from_tensors(self.path, part, tensors, dtype=dtype, **how)
        else:
            # each encoder is given its own tensors alone: from_single_file tells the two apart by their width only, and where
            # that is the same it puts the first one's tensors into the second, without an exception
            network = create_diffusers_clip_model_from_ldm(made, tensors, torch_dtype=dtype, **how)
        whole(self.path, part, network)
        return network

    def tokenizer(self, part: str) -> CLIPTokenizer:
        if self.bundled:
            return loading(self.path, lambda: vocabulary.clip_tokenizer(part), networks=False)
        return tokenizer_in(self.configs / part)


def from_tensors(path: Path, part: str, tensors: dict[str, torch.Tensor], **how: Any) -> Any:
    """diffusers' `from_single_file` for the UNet or the VAE in a file. Raises `CorruptWeights` where tensors are missing."""
    try:
        return network_class(part).from_single_file(tensors, **how)
    except NotImplementedError as error:  # "Cannot copy out of meta tensor"
        raise lacking(path, part, []) from error


def _plain(depth: object) -> bool:
    """Whether the transformer layers of a UNet are given by the block; pruned ones (SSD-1B) have lists within the list."""
    return isinstance(depth, int) or (isinstance(depth, list) and all(isinstance(each, int) for each in depth))


def hash_of(folder: Path, files: Collection[Path]) -> str:
    """Of the files' names and contents, not of their dates, nor of where links lead."""
    return hash_json({file.relative_to(folder).as_posix(): file_sha256(file) for file in files})


def network_class(part: str) -> Any:
    """The class of a part's network, of diffusers or transformers."""
    import diffusers
    import transformers

    return {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel,
        "text_encoder_2": transformers.CLIPTextModelWithProjection,
    }[part]


def from_folder(folder: Path, part: str, dtype: torch.dtype) -> nn.Module:
    """A network from its own folder, on the CPU, in eval mode. Raises `CorruptWeights`, `OutOfMemory`."""
    network = loading(folder, lambda: _from_folder(folder, part, dtype))
    whole(folder, part, network)
    return network


def _from_folder(folder: Path, part: str, dtype: torch.dtype) -> Any:
    import torch

    made, files = network_class(part), [file for file in weight_files(folder) if file.suffix != ".json"]
    if part != "unet" or not in_another_precision(files, dtype):
        return made.from_pretrained(folder, dtype=dtype, variant=variant_of(folder), local_files_only=True)
    config: Any = made.load_config(folder, local_files_only=True)
    with torch.device("meta"):
        network = made.from_config(config)
    for file in files:  # what the network does not have is left out, as from_pretrained does
        network.load_state_dict(converted(file, read_header(file).tensors, dtype), strict=False, assign=True)
    return network.eval()


def tokenizer_in(folder: Path) -> CLIPTokenizer:
    with alone():  # two threads that import by attribute may each see half a module
        from transformers import CLIPTokenizer

    return loading(folder, lambda: CLIPTokenizer.from_pretrained(folder, local_files_only=True), networks=False)


def parameters_in(folder: Path) -> int:
    """How many numbers the weights in a network's folder hold; 0 where they are in no file that says so."""
    files = [path for path in weight_files(folder) if path.suffix == ".safetensors"]
    try:
        return sum(read_header(path).parameters() for path in files)
    except CorruptWeights:  # loading it says so, an estimate need not
        return 0


def _outline(checkpoint: SingleFile, part: str) -> list[tuple[str, object]]:
    prefix, header = checkpoint.prefix(part), checkpoint.header
    return [(name.removeprefix(prefix), header.tensors[name]) for name in header.names(prefix)]


def _section(checkpoint: SingleFile, part: str) -> str:
    stat = checkpoint.path.stat()
    return _section_sha256(checkpoint.path, checkpoint.prefix(part), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _section_sha256(path: Path, prefix: str, size: int, changed: int) -> str:
    """Of the bytes of a network's tensors, 1.4 GB of the second text encoder in float16: where their outlines are equal."""
    import torch
    from safetensors import safe_open

    digest = sha256()
    with safe_open(path, framework="pt") as file:
        for name in read_header(path).names(prefix):
            tensor = file.get_tensor(name)
            digest.update(tensor.reshape(max(1, math.prod(tensor.shape))).view(torch.uint8).numpy())
    return digest.hexdigest()
