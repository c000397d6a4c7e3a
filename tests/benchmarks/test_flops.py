"""The work that the simulated card is given follows what was counted."""

import pytest

from experiments.benchmarks.flops import tflop
from workbench.settings import Settings

SDXL = Settings(width=1024, height=1024, hires_scale=1.0)

# TFLOP counted by torch's flop counter on the real architectures: a guided refiner step, VAE encoder and decoder
COUNTED = {
    768: (7.64, 2.61, 5.75),
    1024: (14.57, 4.88, 10.47),
    1536: (39.27, 12.52, 25.10),
    2048: (86.03, 26.11, 48.48),
}


@pytest.mark.parametrize("side", COUNTED)
def test_the_fits_follow_the_counts(side: int) -> None:
    at = SDXL.replace(width=side, height=side)
    step, encode, decode = COUNTED[side]
    assert tflop("refine", at) == pytest.approx(at.refine_evaluations * step + encode + decode, rel=0.01)


def test_other_stages_and_guidance() -> None:
    assert tflop("base", SDXL.replace(base_cfg=1.0)) == pytest.approx(tflop("base", SDXL) / 2, rel=0.03)
    assert tflop("faces", SDXL) == pytest.approx(0.98) and tflop("upscale", SDXL) == 0
