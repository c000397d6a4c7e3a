import json

import numpy as np
import pytest

from workbench.errors import SettingsError
from workbench.presets import SHIPPED, load_preset
from workbench.recipe.stages.base import NEGATIVE_PROMPT
from workbench.settings import Settings, check_name, knobs, parse_value


def test_every_knob_says_what_a_slider_needs() -> None:
    for knob in knobs().values():
        assert knob.label and knob.help and knob.stage in ("base", "refine", "detail", "faces", "upscale")
        if knob.kind in ("int", "float"):
            assert knob.step is not None and knob.minimum is not None and knob.maximum is not None
            assert isinstance(knob.default, (int, float)) and knob.minimum <= knob.default <= knob.maximum
        if knob.kind == "choice":
            assert knob.default in knob.choices


def test_cfg_sets_both() -> None:
    assert (Settings(cfg=4).base_cfg, Settings(cfg=4).refine_cfg) == (4.0, 4.0)
    assert Settings().replace(cfg=3).refine_cfg == 3.0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strenght": 0.3}, "did you mean 'strength'"),
        ({"strength": 1.5}, "from 0 to 1"),
        ({"strength": "0.5"}, "number"),
        ({"weight": float("nan")}, "finite"),
        ({"seed": True}, "integer"),
        ({"seed": 2**53}, "-1 to 9007199254740991 (larger ones are not exact in JSON and JavaScript)"),
        ({"prompt": "caf\udce9"}, "prompt holds the byte 0xe9 at place 4, which is no UTF-8 text"),
        ({"negative_prompt": "a \ud83d"}, "negative_prompt holds the character '\\ud83d' at place 3"),
        ({"prompt": "a\0b"}, "prompt holds the character '\\x00' at place 2"),
        ({"self": 1}, "unknown setting 'self'"),
        ({"width": 100}, "multiple of 8"),
        ({"sampler": "DPM"}, "DPM++ 2M Karras"),
        ({"cfg": 5, "base_cfg": 4}, "cannot stand beside base_cfg"),
        ({"strength": 0.03}, "0 denoising steps; use strength 0.04 or more"),
        ({"upscale_factor": 9}, "from 1 to 8"),
        ({"upscale_factor": "x"}, "upscale_factor = 'x' is not allowed (input should be a valid number); it must be"),
        ({"upscale_mode": "both"}, "one of picture, background"),
        ({"cfg": 0.5}, "from 1 to 30"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(values: dict, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    text = str(caught.value)
    assert said in text and "\n" not in text and "pydantic" not in text
    with pytest.raises(SettingsError):  # and no way round
        Settings().model_copy(update=values)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().strength = 0.5  # type: ignore[misc]


def test_strength_is_a_step_count() -> None:
    counts = {s: Settings(strength=s).refine_evaluations for s in (0.35, 0.36, 0.37, 0.39, 0.4)}
    assert counts == {0.35: 8, 0.36: 9, 0.37: 9, 0.39: 9, 0.4: 10}
    # floats: 0.29 * 100 is 28.999..., and diffusers' int() makes 28 of it
    assert Settings(strength=0.29, refine_steps=100).refine_evaluations == int(100 * 0.29) == 28


def test_stages_in_their_order() -> None:
    picture = Settings(upscaler="realesrgan-x4plus")
    background = picture.replace(upscale_mode="Background")
    assert picture.stages == ("base", "refine", "faces", "upscale")
    assert background.stages == ("base", "refine", "upscale", "faces")
    # without faces, or without an upscaler, both modes are the same work
    for off in ({"restorer": "none"}, {"upscaler": "none"}, {"restorer": "none", "hires": False}):
        assert background.replace(**off).stages == picture.replace(**off).stages


def test_numpy_values_from_a_table_are_taken() -> None:
    s = Settings(seed=np.int64(4), strength=np.float64(0.5))
    assert (s.seed, s.strength) == (4, 0.5) and type(s.seed) is int
    json.dumps(s.model_dump())


def test_samplers_ignore_case() -> None:
    assert Settings(sampler="dpm++ 2m karras").sampler == "DPM++ 2M Karras"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("strength", "1", 1.0),
        ("seed", "7", 7),
        ("hires", "False", False),
        ("sampler", "Euler a", "Euler a"),
        ("cfg", "5", 5.0),
        ("strength", ".5", 0.5),
        ("strength", "+0.5", 0.5),
        ("strength", "1.", 1.0),
        ("strength", "5e-1", 0.5),
        ("seed", "+7", 7),
        ("seed", "-1", -1),
        ("hires", " TRUE ", True),
        ("seed", "9007199254740991", 2**53 - 1),
    ],
)
def test_values_typed_as_text(name: str, text: str, value: object) -> None:
    got = parse_value(name, text)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("strength", "oops"), ("seed", "1.5"), ("hires", "2"), ("seed", "true"), ("seed", "1_0"), ("strength", "nan"),
        ("strength", "inf"), ("strength", "1e400"), ("strength", "."), ("strength", ""), ("seed", "٣"), ("seed", "9" * 5000),
        ("seed", "9" * 500),
        ("seed", "[1]"),
    ],
)  # fmt: skip
def test_values_of_the_wrong_type(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name):
        parse_value(name, text)


def test_unknown_name() -> None:
    with pytest.raises(SettingsError, match="unknown setting"):
        check_name("foo")


def test_seed_is_drawn_once() -> None:
    drawn = Settings(seed=-1).resolved()
    assert 0 <= drawn.seed < 2**32 and drawn.resolved() == drawn


def test_hires_size_is_a_multiple_of_8() -> None:
    assert Settings(width=1000, height=520, hires_scale=1.31).hires_size == (1312, 680)


def test_recommended_is_the_plan_s_table() -> None:
    s = load_preset("recommended").settings
    assert s == Settings()
    assert (s.steps, s.sampler, s.base_cfg, s.refine_cfg, s.width, s.height) == (
        35,
        "DPM++ 2M Karras",
        7,
        7,
        1024,
        1024,
    )
    assert (s.hires_size, s.strength, s.refine_steps, s.weight, s.upscaler) == ((1536, 1536), 0.35, 25, 0.6, "none")
    assert s.negative_prompt == NEGATIVE_PROMPT


def test_hires_768_is_the_plan_s_table() -> None:
    s = load_preset("hires-768").settings
    assert (s.width, s.steps, s.base_cfg, s.hires_size, s.refine_cfg) == (768, 30, 7.5, (1536, 1536), 7.0)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda p: p.stem)
def test_every_shipped_preset_loads(path) -> None:
    preset = load_preset(path)
    assert preset.name == path.stem and preset.licences
    restores = preset.settings.restorer == "codeformer"
    assert any("non-commercial" in licence for licence in preset.licences) == restores
