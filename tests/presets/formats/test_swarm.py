"""SwarmUI's parameters: samples as it writes them, made up for these tests, and texts that are none."""

import json

import pytest

from tests.support.foreign import Sample, check, mutated, round_trip
from workbench.errors import NotUnderstood
from workbench.presets.formats import FORMATS, export_settings, read_text
from workbench.settings import Settings

PARAMS = {
    "prompt": "photo of Ada", "negativeprompt": "blurry", "model": "realvis5", "seed": 7, "steps": 30, "cfgscale": 4.5,
    "width": 832, "height": 1216, "sampler": "dpmpp_2m", "scheduler": "karras", "swarm_version": "0.9.7",
}  # fmt: skip
READ = {
    "prompt": "photo of Ada", "negative_prompt": "blurry", "model": "realvis5", "seed": 7, "steps": 30, "base_cfg": 4.5,
    "refine_cfg": 4.5, "width": 832, "height": 1216, "hires": False, "restorer": "none", "refiner": "base",
}  # fmt: skip
HIRES = {
    "refinermethod": "PostApply", "refinercontrolpercentage": 0.35, "refinerupscale": 1.5,
    "refinerupscalemethod": "pixel-lanczos", "refinersteps": 25, "refinercfgscale": 4.5,
}  # fmt: skip
HIRES_READ = {"hires": True, "strength": 0.35, "refine_steps": 25, "hires_scale": 1.5}
SAMPLES = [
    Sample("as it is"),
    Sample("numbers are texts", {"seed": "7", "steps": "30", "cfgscale": "4.5", "width": "832", "height": "1216"}),
    Sample("names with spaces", {"CFG Scale": "5", "cfgscale": None}, {"base_cfg": 5.0, "refine_cfg": 5.0}),
    Sample("30.0 steps", {"steps": 30.0}),
    Sample("a whole scale", {"cfgscale": 5}, {"base_cfg": 5.0, "refine_cfg": 5.0}),
    Sample("no seed", {"seed": None}, {"seed": -1}),
    Sample("any seed", {"seed": "-1"}, {"seed": -1}),
    Sample("a seed too large", {"seed": 2**63}, {"seed": -1}, ["seed: 9223372036854775808"]),
    Sample("steps out of range", {"steps": 400}, {"steps": 35}, ["steps: 400"]),
    Sample("steps that are none", {"steps": "many"}, {"steps": 35}, ["steps: many"]),
    Sample("steps that are a list", {"steps": [30]}, {"steps": 35}, ["steps: [30]"]),
    Sample("a switch as a number", {"steps": True}, {"steps": 35}, ["steps: true"]),
    Sample("an odd width", {"width": 833}, {"width": 1024}, ["width: 833"]),
    Sample("weights", {"prompt": "a (window:1.3) \\(x\\) [y]"}, {"prompt": "a (window:1.3) \\(x\\) \\[y\\]"}),
    Sample("quotes", {"prompt": 'she said "no",\ntwice'}, {"prompt": 'she said "no",\ntwice'}),
    Sample("unicode", {"prompt": "ünïcode 日本 🙂"}, {"prompt": "ünïcode 日本 🙂"}),
    Sample("a NUL", {"prompt": "a\0b"}, {"prompt": "ab"}),
    Sample("break", {"prompt": "one <break> two"}, {"prompt": "one BREAK two"}),
    Sample("no prompt", {"prompt": None}, {"prompt": ""}),
    Sample("a prompt that is a number", {"prompt": 5}, {"prompt": ""}, ["prompt: 5"]),
    Sample("no negative", {"negativeprompt": None}, {"negative_prompt": ""}),
    Sample("words that are syntax here", {"prompt": "a AND b"}, {"prompt": "a AND b", "prompt_syntax": "plain"},
           guessed=["prompt_syntax"]),
    Sample("syntax beside weights", {"prompt": "a AND (b:1.2)"}, {"prompt": "a and (b:1.2)"}, guessed=["prompt"]),
    Sample("a LoRA in the prompt", {"prompt": "a <lora:skin:0.4>"}, {"prompt": "a", "loras": "skin:0.4"}),
    Sample("LoRAs", {"loras": ["f/skin.safetensors", "eyes"], "loraweights": ["0.4", 1]}, {"loras": "skin:0.4, eyes:1"}),
    Sample("LoRAs as a text", {"loras": "skin,eyes", "loraweights": "0.4,-0.5"}, {"loras": "skin:0.4, eyes:-0.5"}),
    Sample("a LoRA without a weight", {"loras": ["skin"]}, {"loras": "skin:1"}),
    Sample("a LoRA twice", {"loras": ["skin", "skin"], "loraweights": ["1", "2"]}, {"loras": "skin:1"}, ["loras: skin, 2"]),
    Sample("a LoRA's weight that is none", {"loras": ["skin"], "loraweights": ["x"]}, {}, ["loras: skin, x"]),
    Sample("a tag that is unknown", {"prompt": "a <random:b|c>"}, {"prompt": "a"}, ["prompt: <random:b|c>"]),
    Sample("a face", {"prompt": "a <segment:face,0.5,0.5> nice eyes"},
           {"prompt": "a", "detail": True, "detail_strength": 0.5, "detail_steps": 30, "detail_prompt": "nice eyes"},
           guessed=["detail", "detail_steps"]),
    Sample("a face with the picture's prompt", {"prompt": "a <segment:yolo-face_yolov8m.pt-1> a"},
           {"prompt": "a", "detail": True, "detail_strength": 0.6, "detail_steps": 30}),
    Sample("a hand", {"prompt": "a <segment:hand,0.5> fingers"}, {"prompt": "a"}, ["prompt: <segment:hand,0.5> fingers"]),
    Sample("the hires fix", HIRES, HIRES_READ),
    Sample("the hires fix as texts", {name: str(value) for name, value in HIRES.items()}, HIRES_READ),
    Sample("latents are enlarged", {**HIRES, "refinerupscalemethod": "latent-bislerp"}, HIRES_READ,
           ["refinerupscalemethod: latent-bislerp"]),
    Sample("a network enlarges", {**HIRES, "refinerupscalemethod": "model-4x-Sharp.pth"},
           {**HIRES_READ, "resampler": "4x-Sharp"}),
    Sample("Real-ESRGAN enlarges", {**HIRES, "refinerupscalemethod": "model-RealESRGAN_x4plus.pth"},
           {**HIRES_READ, "resampler": "realesrgan-x4plus"}),
    Sample("another refiner", {**HIRES, "refinermodel": "xl/other.safetensors"}, {**HIRES_READ, "refiner": "other"}),
    Sample("the base refines", {**HIRES, "refinermodel": "(Use Base)"}, HIRES_READ),
    Sample("the base hands over", {**HIRES, "refinermethod": "StepSwap"}, {}, ["refiner"]),
    Sample("a sampler of its own", {**HIRES, "refinersampler": "euler", "refinerscheduler": "normal"},
           {**HIRES_READ, "hires_sampler": "Euler", "hires_schedule": "Normal"}),
    Sample("a sampler that is unknown", {"sampler": "dpmpp_3m_sde_gpu"}, {"sampler": "DPM++ 2M SDE Karras"},
           guessed=["sampler"]),
    Sample("CLIP skip", {"clipstopatlayer": "-3"}, {"clip_skip": 1}),
    Sample("CLIP's last layer", {"clipstopatlayer": -1}, {}, ["clipstopatlayer: -1"]),
    Sample("a VAE", {"vae": "fix.safetensors"}, {"vae": "fix"}),
    Sample("what there is not", {"freeu": True, "initimagecreativity": 0.6}, {}, ["freeu: true", "initimagecreativity: 0.6"]),
]  # fmt: skip


def written(params: dict[str, object]) -> str:
    said = {name: value for name, value in params.items() if value is not None}
    return json.dumps({"sui_image_params": said, "sui_extra_data": {"date": "2026-11-01"}})


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.about)
def test_what_swarmui_has_written_is_read(sample: Sample) -> None:
    check(read_text(written({**PARAMS, **sample.change})), READ, sample)


@pytest.mark.parametrize(
    "text", ["{", '{"sui_image_params": 5}', '{"sui_image_params": {"prompt": "a', "[]", "", "null"]
)
def test_what_swarmui_has_not_written_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(NotUnderstood, match="SwarmUI parameters"):
        read_text(text, "swarmui")


def test_what_swarmui_cannot_say_is_named_and_the_rest_comes_back() -> None:
    round_trip("swarmui", 12)


def test_no_mutated_text_of_swarmui_breaks_the_reading() -> None:
    mutated("swarmui", 150)


def test_settings_that_swarmui_has_lose_nothing() -> None:
    s = Settings(
        model="realvis5", refiner="base", restorer="none", seed=-1, loras="skin:0.4", clip_skip=1, hires_scale=1.3
    )
    assert export_settings(s, "swarmui").unmapped == {}


def test_a_face_is_told_to_be_found_otherwise_there() -> None:
    told = export_settings(Settings(detail=True), "swarmui").unmapped
    assert {"detail_size", "detail_confidence", "detail_blur", "restorer"} <= told.keys()


def test_as_many_steps_run_in_swarmui_as_here() -> None:
    fixed = Settings(model="realvis5", refiner="base", restorer="none", strength_steps="fixed", refine_steps=25)
    said = json.loads(export_settings(fixed, "swarmui").text)["sui_image_params"]
    assert int(said["refinersteps"] * said["refinercontrolpercentage"]) == 25


def test_swarmui_is_told_from_a1111_by_what_stands_in_the_chunk() -> None:
    assert FORMATS["swarmui"].find({"parameters": written(PARAMS)}) == written(PARAMS)
    assert FORMATS["swarmui"].find({"parameters": "a face\nSteps: 3, Sampler: Euler, Seed: 4"}) is None


def test_a_scheduler_counts_without_a_sampler() -> None:
    params = {name: value for name, value in PARAMS.items() if name != "sampler"}
    found = read_text(written({**params, "scheduler": "exponential"}))
    assert (found.settings.schedule, found.settings.sampler) == ("Exponential", "DPM++ 2M")


def test_half_a_surrogate_pair_is_refused_in_a_sentence() -> None:
    with pytest.raises(NotUnderstood, match="damaged"):
        read_text('{"sui_image_params": {"prompt": "\ud83d"}}')
