"""The work of a stage in TFLOP of the full-size SDXL, CodeFormer and Real-ESRGAN: fits to counts of torch's flop counter.

The simulated card sleeps as long as this work takes at a rate. The product counts more simply (`sweeps.work_units`), because
it measures how long a job takes at each size.
"""

from __future__ import annotations

from workbench.settings import Settings

MEGA = 1024 * 1024  # pixels of a 1024 x 1024 picture: the unit of area here

# (a, b) of TFLOP = a A + b A^2, A the area: convolutions grow with the area, attention with its square.
# Solved at 1024 and 2048 px; counted at 768 and 1536 px, off by at most 0.6 %:
# base UNet 7.28 and 34.52, refiner 7.64 and 39.27, VAE decoder 5.75 and 25.10, VAE encoder 2.61 and 12.52.
# The UNets are a pair of forwards, as guidance needs.
BASE_STEP = (12.04, 1.48)
REFINE_STEP = (12.26, 2.31)
DECODE = (9.92, 0.55)
ENCODE = (4.33, 0.55)
UPSCALERS = {"none": 0.0, "realesrgan-x4plus": 37.6, "realesr-animevideov3": 1.3}  # TFLOP at area 1
FACES = (0.17, 0.81)  # finding faces at area 1; CodeFormer on one face


def tflop(stage: str, s: Settings) -> float:
    """TFLOP of one job of base, refine, faces or upscale.

    From a refinement at 1024 px to one at 1536 px it grows 2.69-fold; counted are 2.70 for a UNet step and 2.45 for the VAE.
    """
    width, height = (s.width, s.height) if stage == "base" or not s.hires else s.hires_size
    area = width * height / MEGA
    if stage == "base":
        return s.steps * _step(BASE_STEP, area, s.base_cfg) + _fit(DECODE, area)
    if stage == "refine":
        return s.refine_evaluations * _step(REFINE_STEP, area, s.refine_cfg) + _fit(DECODE, area) + _fit(ENCODE, area)
    if stage == "faces":
        return FACES[0] * area + FACES[1]
    return UPSCALERS[s.upscaler] * area


def _fit(fit: tuple[float, float], area: float) -> float:
    return fit[0] * area + fit[1] * area**2


def _step(fit: tuple[float, float], area: float, cfg: float) -> float:
    return _fit(fit, area) / (1 if cfg > 1 else 2)  # without guidance the UNet runs on one picture, not on a pair
