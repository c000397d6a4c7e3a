"""InvokeAI's metadata: samples as it writes them, made up for these tests, and texts that are none."""

import json

import pytest

from tests.support.foreign import Sample, check, mutated, round_trip
from workbench.errors import NotUnderstood
from workbench.presets.formats import export_settings, read_text
from workbench.settings import Settings

METADATA = {
    "generation_mode": "sdxl_txt2img", "positive_prompt": "photo of Ada", "negative_prompt": "blurry", "width": 832,
    "height": 1216, "seed": 7, "rand_device": "cpu", "cfg_scale": 4.5, "cfg_rescale_multiplier": 0, "steps": 30,
    "scheduler": "dpmpp_2m_k", "clip_skip": 0, "app_version": "6.14.2",
    "model": {"key": "k", "hash": "blake3:00", "name": "realvis5", "base": "sdxl", "type": "main"},
}  # fmt: skip
READ = {
    "prompt": "photo of Ada", "negative_prompt": "blurry", "model": "realvis5", "seed": 7, "steps": 30, "base_cfg": 4.5,
    "refine_cfg": 4.5, "width": 832, "height": 1216, "hires": False, "restorer": "none", "refiner": "base",
}  # fmt: skip
SAMPLES = [
    Sample("as it is"),
    Sample("numbers are texts", {"seed": "7", "steps": "30", "cfg_scale": "4.5"}),
    Sample("no seed", {"seed": None}, {"seed": -1}),
    Sample("steps out of range", {"steps": 400}, {"steps": 35}, ["steps: 400"]),
    Sample("a scale for each step", {"cfg_scale": [1, 2]}, {"base_cfg": 7.0, "refine_cfg": 7.0}, ["cfg_scale: [1, 2]"]),
    Sample("the model's own schedule", {"scheduler": "euler"}, {"sampler": "Euler"}),
    Sample("weights", {"positive_prompt": "(a)1.3 b+"}, {"prompt": "(a:1.3) (b:1.1)"}),
    Sample("quotes", {"positive_prompt": 'she said "no",\ntwice'}, {"prompt": 'she said "no",\ntwice'}),
    Sample("unicode", {"positive_prompt": "日本 🙂"}, {"prompt": "日本 🙂"}),
    Sample("a LoRA", {"loras": [{"model": {"name": "skin"}, "weight": 0.4}]}, {"loras": "skin:0.4"}),
    Sample("a LoRA of version 3", {"loras": [{"lora": {"model_name": "skin"}, "weight": "0.4"}]}, {"loras": "skin:0.4"}),
    Sample("a VAE", {"vae": {"name": "fix"}}, {"vae": "fix"}),
    Sample("a refiner", {"refiner_start": 0.8, "refiner_steps": 20}, {}, ["refiner_start: 0.8", "refiner_steps: 20"]),
    Sample("rescaled guidance", {"cfg_rescale_multiplier": 0.7}, {}, ["cfg_rescale_multiplier: 0.7"]),
    Sample("another picture", {"controlnets": [{"weight": 1}]}, {}, ["controlnets"]),
]  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.about)
def test_what_invokeai_has_written_is_read(sample: Sample) -> None:
    said = {name: value for name, value in {**METADATA, **sample.change}.items() if value is not None}
    check(read_text(json.dumps(said)), READ, sample)


@pytest.mark.parametrize("text", ["{", "[]", "", "null", '{"positive_prompt": "a'])
def test_what_invokeai_has_not_written_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(NotUnderstood, match="InvokeAI metadata"):
        read_text(text, "invokeai")


def test_what_invokeai_cannot_say_is_named_and_the_rest_comes_back() -> None:
    round_trip("invokeai", 12)


def test_no_mutated_text_of_invokeai_breaks_the_reading() -> None:
    mutated("invokeai", 150)


def test_the_hires_fix_is_told_to_be_lost_in_invokeai() -> None:
    assert {"hires", "restorer"} <= export_settings(Settings(refiner="base"), "invokeai").unmapped.keys()
