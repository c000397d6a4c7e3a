"""How far a face moved from another picture of it: LPIPS, SSIM and identity drift; and NIQE, for reference only.

All take aligned faces, (512, 512, 3) uint8 RGB on `faces.TEMPLATE_512`, cut from both pictures at the same landmarks.
None of them is a sharpness score, and none ever downloads a weights file: LPIPS says so and gives no number without it.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import torch
from scipy.ndimage import convolve
from scipy.special import gamma
from skimage.metrics import structural_similarity
from torch.nn import functional

from workbench.errors import UsageError
from workbench.models import DLIB_CHIP, alone, import_basicsr, load_dlib_resnet, package_folder, pinned_threads

from .measures import NotMeasured

CHIP_BOX = (84, 135, 436, 487)
"""x0, y0, x1, y1 of the part of the template that becomes the recognition network's picture.

It is the median of the parts that dlib itself cuts, by its own detector and five landmarks, from 61 aligned faces. From one
face to another dlib's part lies 3 px away (standard deviation), is 3.5 % larger or smaller and turned by 1.9 degrees. The
descriptor of this part is .12 from that of dlib's own (median of 61, at most .20); parts 4 or 8 px away are further from it.
"""


def _check(*crops: np.ndarray) -> None:
    for crop in crops:
        if crop.shape != (512, 512, 3) or crop.dtype != np.uint8:
            raise UsageError(f"an aligned face is (512, 512, 3) of uint8, not {crop.shape} of {crop.dtype}.")


def _tensor(crop: np.ndarray) -> torch.Tensor:
    """(1, 3, H, W) float32 RGB, 0..255."""
    return torch.from_numpy(np.array(crop, order="C")).permute(2, 0, 1)[None].float()


@contextlib.contextmanager
def _inference() -> Iterator[None]:
    """Inference on the pinned number of threads. numpy does not warn of 0/0: it gives NaN, which is looked for afterwards."""
    with pinned_threads(), torch.inference_mode(), np.errstate(all="ignore"):
        yield


def preload() -> None:
    """Load what the measures need, in the calling thread. Raises as the measures do."""
    with alone():
        if not isinstance(lpips_backbone(), NotMeasured):
            _lpips_net()
        _recognition_net()


# --- LPIPS ---------------------------------------------------------------------------------------------------------


def lpips_backbone() -> Path | NotMeasured:
    """The file of AlexNet's weights where torchvision would download it to, if it is there already."""
    from torchvision.models import AlexNet_Weights

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(AlexNet_Weights.IMAGENET1K_V1.url).name
    if path.exists():
        return path
    return NotMeasured(f"LPIPS needs torchvision's AlexNet, which is not at {path.name} in torch's hub folder")


@cache
def _lpips_net() -> torch.nn.Module:
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its call of torchvision's deprecated `pretrained`
        return lpips.LPIPS(net="alex", verbose=False).eval()


def lpips_distance(crop: np.ndarray, reference_crop: np.ndarray) -> float | NotMeasured:
    """LPIPS (Zhang et al. 2018, AlexNet, version 0.1) of two aligned faces: 0 and up, 0 = equal.

    `NotMeasured` when the AlexNet backbone is not on this machine: a random one gives numbers that mean nothing.
    """
    _check(crop, reference_crop)
    backbone = lpips_backbone()
    if isinstance(backbone, NotMeasured):
        return backbone
    if np.array_equal(crop, reference_crop):
        return 0.0
    with alone():
        net = _lpips_net()
    with _inference():
        value = float(net(*(_tensor(c) / 127.5 - 1 for c in (crop, reference_crop))))
    return value if math.isfinite(value) else NotMeasured("LPIPS gave no finite number")


# --- SSIM ----------------------------------------------------------------------------------------------------------


def ssim(crop: np.ndarray, reference_crop: np.ndarray) -> float:
    """SSIM (Wang et al. 2004: Gaussian window of 1.5 px, biased covariance) of the luma of two aligned faces: -1..1.

    Two equal pictures give 1, constant ones too.
    """
    _check(crop, reference_crop)
    if np.array_equal(crop, reference_crop):
        return 1.0  # of every pixel, to the last bit
    one, other = (c.astype(np.float64) @ (0.299, 0.587, 0.114) for c in (crop, reference_crop))
    value = structural_similarity(
        one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float(cast(float, value))


# --- identity ------------------------------------------------------------------------------------------------------


_recognition_net = cache(load_dlib_resnet)


def identity_drift(crop: np.ndarray, reference_crop: np.ndarray) -> float:
    """Distance of two aligned faces to dlib's recognition network: 0 and up, 0 = the same face. See `IDENTITY.about`.

    The network gets the faces in its own framing, shrunk to 150 px without aliasing, so that sharpness hardly counts.

    Raises:
        MissingWeights, CorruptWeights: of the package that brings the network's weights.
    """
    _check(crop, reference_crop)
    if np.array_equal(crop, reference_crop):
        return 0.0
    with alone():
        net = _recognition_net()
    x0, y0, x1, y1 = CHIP_BOX
    with _inference():
        parts = torch.cat([_tensor(c[y0:y1, x0:x1]) for c in (crop, reference_crop)])
        one, other = net(
            functional.interpolate(parts, (DLIB_CHIP, DLIB_CHIP), mode="bilinear", antialias=True)
        ).double()
        return float(torch.linalg.vector_norm(one - other))


# --- NIQE ----------------------------------------------------------------------------------------------------------


NIQE_BLOCK = 96  # px; two scales, five by five blocks of the crop in each
SHAPES = np.arange(0.2, 10.001, 0.001)  # of the generalized Gaussians that a block's values are compared with


@cache
def _natural() -> tuple[ModuleType, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `niqe` compares with.

    basicsr's module that resizes as MATLAB does; mean, covariance and 7x7 window of NIQE's natural pictures; and for each of
    SHAPES the ratio of its squared mean magnitude to its power.
    """
    import_basicsr()  # basicsr cannot be imported without it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy.ndimage.filters, gone in SciPy 2, in another metric
        from basicsr.utils import matlab_functions
    with np.load(package_folder("basicsr", "basicsr") / "metrics" / "niqe_pris_params.npz") as file:
        mean, covariance, window = (file[name] for name in ("mu_pris_param", "cov_pris_param", "gaussian_window"))
    inverse = np.reciprocal(SHAPES)
    ratios = np.square(gamma(inverse * 2)) / (gamma(inverse) * gamma(inverse * 3))
    return matlab_functions, mean, covariance, window, ratios


def _matched(block: np.ndarray, ratios: np.ndarray) -> tuple[float, float, float]:
    """Shape, left and right width of the asymmetric generalized Gaussian that has a block's moments."""
    block = block.flatten()
    left, right = (np.sqrt(np.mean(side**2)) if side.size else np.nan for side in (block[block < 0], block[block > 0]))
    skew = left / right
    ratio = (np.mean(np.abs(block))) ** 2 / np.mean(block**2)
    ratio = (ratio * (skew**3 + 1) * (skew + 1)) / ((skew**2 + 1) ** 2)
    shape = SHAPES[np.argmin((ratios - ratio) ** 2)]
    return (
        shape,
        left * np.sqrt(gamma(1 / shape) / gamma(3 / shape)),
        right * np.sqrt(gamma(1 / shape) / gamma(3 / shape)),
    )


def _block_features(block: np.ndarray, ratios: np.ndarray) -> list[float]:
    """18 numbers: the shape and width that match a block's values, and their products with neighbours in four directions."""
    shape, left, right = _matched(block, ratios)
    numbers = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _matched(block * np.roll(block, shift, axis=(0, 1)), ratios)
        numbers += [shape, (right - left) * (gamma(2 / shape) / gamma(1 / shape)), left, right]
    return numbers


def niqe(crop: np.ndarray) -> float | NotMeasured:
    """NIQE (Mittal et al. 2013) of an aligned face: 0 and up; bit for bit what basicsr's `calculate_niqe` gives.

    It looks at 25 blocks of 96x96 px of the luma. `NotMeasured` where they have too little texture for its statistics, as in
    a constant crop. See `NIQE.about` before believing it. basicsr's own code is not called: it makes the table of `_natural`
    anew for each of 250 blocks, which is two fifths of its time, and warns of every flat block.
    """
    _check(crop)
    missing = NotMeasured("NIQE found too little texture in this face")
    with alone():
        matlab, mean, covariance, window, ratios = _natural()
    with _inference():
        # MATLAB's luma of RGB, 16..235
        luma = (np.dot(crop.astype(np.float32) / 255.0, [65.481, 128.553, 24.966]) + 16.0) / 255.0
        luma = (luma.astype(np.float32) * 255.0).round()[: 5 * NIQE_BLOCK, : 5 * NIQE_BLOCK]
        scales = []
        for side in (NIQE_BLOCK, NIQE_BLOCK // 2):
            local = convolve(luma, window, mode="nearest")
            deviation = np.sqrt(np.abs(convolve(np.square(luma), window, mode="nearest") - np.square(local)))
            normal = (luma - local) / (deviation + 1)
            places = ((x, y) for x in range(0, 5 * side, side) for y in range(0, 5 * side, side))
            scales.append([_block_features(normal[y : y + side, x : x + side], ratios) for x, y in places])
            if side == NIQE_BLOCK:
                luma = matlab.imresize(luma / 255.0, scale=0.5, antialiasing=True) * 255.0
        blocks = np.concatenate(scales, axis=1)
        whole = blocks[~np.isnan(blocks).any(axis=1)]
        if len(whole) < 2:
            return missing
        away = mean - np.nanmean(blocks, axis=0)
        try:
            inverse = np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2)
        except np.linalg.LinAlgError:
            return missing
        value = float(np.squeeze(np.sqrt(np.matmul(np.matmul(away, inverse), np.transpose(away)))))
    return value if math.isfinite(value) else missing
