"""How far a face moved from another picture of it: LPIPS, SSIM and identity drift; and NIQE, for reference only.

All take aligned faces, (512, 512, 3) uint8 RGB on `faces.TEMPLATE_512`, cut from both pictures at the same landmarks.
None of them is a sharpness score, and none ever downloads a weights file: without it they say so and give no number.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skimage.metrics import structural_similarity

from .measures import NotMeasured
from .networks import load_strictly, package_folder, read_tensors
from .settings import UsageError
from .upscalers import import_basicsr
from .weights import models_folder, pinned_threads

if TYPE_CHECKING:
    from facexlib.recognition.arcface_arch import Backbone

ARCFACE = "recognition_arcface_ir_se50.pth"
ARCFACE_SIDE = 112
ARCFACE_BOX = (64, 70, 440, 446)
"""x0, y0, x1, y1 of the template that becomes ArcFace's 112x112 input: what users of these weights cut from faces aligned
as FFHQ's (pixel2style2pixel: 32..220, 35..223 of 256). It puts the landmarks within 4 px of where ArcFace aligns them."""


def _check(*crops: np.ndarray) -> None:
    for crop in crops:
        if crop.shape != (512, 512, 3) or crop.dtype != np.uint8:
            raise UsageError(f"an aligned face is (512, 512, 3) of uint8, not {crop.shape} of {crop.dtype}.")


def _tensor(crop: np.ndarray) -> torch.Tensor:
    """(1, 3, H, W) float32 RGB, -1..1."""
    return torch.from_numpy(np.array(crop, order="C")).permute(2, 0, 1)[None].float() / 127.5 - 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inference on the pinned number of threads, without the libraries' warnings about their own deprecated calls."""
    with warnings.catch_warnings(), pinned_threads(), torch.inference_mode(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


# --- LPIPS ---------------------------------------------------------------------------------------------------------


def lpips_backbone() -> Path | NotMeasured:
    """The AlexNet file that torchvision would download, if it is already there."""
    from torchvision.models import AlexNet_Weights

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name
    if path.exists():
        return path
    return NotMeasured(f"LPIPS needs torchvision's AlexNet, which is not at {path.name} in torch's hub folder")


@cache
def _lpips_net() -> Any:
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval()


def lpips_distance(crop: np.ndarray, reference_crop: np.ndarray) -> float | NotMeasured:
    """LPIPS (Zhang et al. 2018, AlexNet, version 0.1) of two aligned faces: 0 and up, 0 = equal.

    `NotMeasured` when the AlexNet backbone is not on this machine: a random one gives numbers that mean nothing.
    """
    _check(crop, reference_crop)
    backbone = lpips_backbone()
    if isinstance(backbone, NotMeasured):
        return backbone
    with _quiet():
        value = float(_lpips_net()(_tensor(crop), _tensor(reference_crop)))
    return value if math.isfinite(value) else NotMeasured("LPIPS gave no finite number")


# --- SSIM ----------------------------------------------------------------------------------------------------------


def ssim(crop: np.ndarray, reference_crop: np.ndarray) -> float:
    """SSIM (Wang et al. 2004: Gaussian window of 1.5 px, biased covariance) of the luma of two aligned faces: -1..1.

    Two equal pictures give 1, constant ones too.
    """
    _check(crop, reference_crop)
    one, other = (c.astype(np.float64) @ (0.299, 0.587, 0.114) for c in (crop, reference_crop))
    value: Any = structural_similarity(
        one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float(value)


# --- identity ------------------------------------------------------------------------------------------------------


def arcface_weights() -> Path | NotMeasured:
    """facexlib's recognition weights: in its own folder, where it would download them to, or among our models."""
    for place in (package_folder("facexlib", "facexlib") / "weights", models_folder()):
        if (place / ARCFACE).is_file():
            return place / ARCFACE
    return NotMeasured(f"identity needs facexlib's {ARCFACE}: put it into the models folder beside the SDXL models")


@cache
def load_arcface(path: Path) -> Backbone:
    """ArcFace's IR-SE-50 (Deng et al. 2019) as facexlib builds it. Raises `MissingWeights`, `CorruptWeights`.

    facexlib's own `init_recognition_model` puts the network on a GPU whether there is one or not, and downloads.
    """
    from facexlib.recognition.arcface_arch import Backbone

    net = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
    load_strictly(net, read_tensors(path)[0], path)
    return net


def identity_drift(crop: np.ndarray, reference_crop: np.ndarray) -> float | NotMeasured:
    """1 - cosine similarity of ArcFace's embeddings of two aligned faces: 0..2, 0 = the same face.

    The network gets RGB in -1..1, cut to its own framing and averaged down to 112x112, so that sharpness hardly counts.

    Raises:
        CorruptWeights: the file is there but is not this network's.
    """
    _check(crop, reference_crop)
    path = arcface_weights()
    if isinstance(path, NotMeasured):
        return path
    net = load_arcface(path)
    x0, y0, x1, y1 = ARCFACE_BOX
    with _quiet():
        faces = torch.cat([_tensor(c[y0:y1, x0:x1]) for c in (crop, reference_crop)])
        one, other = net(torch.nn.functional.interpolate(faces, (ARCFACE_SIDE,) * 2, mode="area")).double()
        value = 1 - float(torch.nn.functional.cosine_similarity(one, other, dim=0))
    return max(value, 0.0) if math.isfinite(value) else NotMeasured("the recognition network gave no finite number")


# --- NIQE ----------------------------------------------------------------------------------------------------------


@cache
def _niqe() -> Callable[..., Any]:
    import_basicsr()  # basicsr cannot be imported without it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy.ndimage.filters, gone in SciPy 2
        from basicsr.metrics.niqe import calculate_niqe
    return calculate_niqe


def niqe(crop: np.ndarray) -> float | NotMeasured:
    """NIQE (Mittal et al. 2013), basicsr's code and its natural-picture parameters, of an aligned face: 0 and up.

    25 blocks of 96x96 px of the luma. `NotMeasured` where they have too little texture for its statistics (a constant
    crop). See `NIQE.about` before believing it.
    """
    _check(crop)
    with _quiet():
        try:
            value = float(_niqe()(crop[..., ::-1], crop_border=0, input_order="HWC", convert_to="y"))
        except (np.linalg.LinAlgError, ValueError, IndexError):  # no block without NaN is left
            value = math.nan
    return value if math.isfinite(value) else NotMeasured("NIQE found too little texture in this face")
