"""Settings that do nothing, so that nobody moves a dead slider."""

from collections.abc import Mapping

import pytest

from workbench.recipe import unused_settings
from workbench.settings import Settings, knobs

START = Settings(model="embedded", width=256, height=256)
REFINE = {"hires_scale", "resampler", "strength", "refine_steps", "refine_cfg", "hires_sampler", "hires_prompt"}
DETAIL = {name for name, knob in knobs().items() if knob.stage == "detail"} - {"detail"}


@pytest.mark.parametrize(
    ("changes", "dead", "alive"),
    [
        ({}, DETAIL | {"upscale_factor"}, REFINE | {"weight", "seed", "model", "vae", "loras", "prompt", "detail"}),
        ({"hires": False}, REFINE | {"strength_steps"}, {"hires", "weight", "base_cfg"}),
        # the detailer's guidance scale is the hires fix's where it has none of its own
        ({"hires": False, "detail": True}, REFINE - {"refine_cfg"}, DETAIL | {"refine_cfg", "strength_steps"}),
        ({"restorer": "none"}, {"weight", "restore_visibility", "detector"}, {"restorer"}),
        ({"restorer": "none", "detail": True}, {"weight"}, {"detector"}),
        ({"cfg": 1.0}, {"negative_prompt", "hires_negative_prompt"}, {"base_cfg", "prompt"}),
        ({"upscaler": "realesrgan-x4plus"}, set(), {"upscale_factor", "upscale_mode"}),
    ],
)
def test_what_does_nothing_is_found(changes: Mapping[str, object], dead: set[str], alive: set[str]) -> None:
    unused = set(unused_settings(START.replace(**changes)))
    assert dead <= unused and not alive & unused


def test_it_says_why() -> None:
    why = unused_settings(START.replace(hires=False, restorer="none"))
    assert why["strength"] == "Hires fix and refiner is off" and why["weight"] == "Face restorer is off"
    assert (
        unused_settings(START.replace(sampler="DPM++ 2M Karras"))["schedule"]
        == "the other settings leave it nothing to do"
    )
