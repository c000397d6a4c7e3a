"""ComfyUI's graphs: samples made up for these tests, and texts that are none."""

import json

import pytest

from tests.support.foreign import Sample, check, mutated, round_trip
from workbench.errors import NotUnderstood
from workbench.presets.formats import export_settings, read_text
from workbench.settings import Settings

GRAPH = {
    "15": ("SaveImage", {"images": ["6", 0]}),
    "1": ("CheckpointLoaderSimple", {"ckpt_name": "xl/realvis5.safetensors"}),
    "2": ("CLIPTextEncode", {"clip": ["1", 1], "text": "photo of Ada"}),
    "3": ("CLIPTextEncode", {"clip": ["1", 1], "text": "blurry"}),
    "4": ("EmptyLatentImage", {"width": 832, "height": 1216, "batch_size": 1}),
    "5": ("KSampler", {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0], "seed": 7,
                       "steps": 30, "cfg": 4.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0}),
    "6": ("VAEDecode", {"samples": ["5", 0], "vae": ["1", 2]}),
}  # fmt: skip
READ = {
    "prompt": "photo of Ada", "negative_prompt": "blurry", "model": "realvis5", "seed": 7, "steps": 30, "base_cfg": 4.5,
    "refine_cfg": 4.5, "width": 832, "height": 1216, "hires": False, "restorer": "none", "refiner": "base",
    "strength_steps": "fixed",
}  # fmt: skip
HIRES = {
    "7": ("ImageScaleBy", {"image": ["6", 0], "upscale_method": "lanczos", "scale_by": 1.5}),
    "8": ("VAEEncode", {"pixels": ["7", 0], "vae": ["1", 2]}),
    "9": ("KSampler", {**GRAPH["5"][1], "latent_image": ["8", 0], "steps": 8, "denoise": 0.35}),
    "10": ("VAEDecode", {"samples": ["9", 0], "vae": ["1", 2]}),
    "15": ("SaveImage", {"images": ["10", 0]}),
}  # fmt: skip
HIRES_READ = {"hires": True, "refine_steps": 8, "strength": 0.35, "hires_scale": 1.5}
SAMPLES = [
    Sample("as it is"),
    Sample("weights", {"2": ("CLIPTextEncode", {"clip": ["1", 1], "text": "(a:1.3) [b]"})}, {"prompt": "(a:1.3) \\[b\\]"}),
    Sample("a text by a link", {"2": ("CLIPTextEncode", {"clip": ["1", 1], "text": ["20", 0]}),
                                "20": ("PrimitiveString", {"value": "日本"})}, {"prompt": "日本"}),
    Sample("a LoRA", {"5": ("KSampler", {**GRAPH["5"][1], "model": ["20", 0]}),
                      "20": ("LoraLoaderModelOnly", {"model": ["1", 0], "lora_name": "skin", "strength_model": 0.4})},
           {"loras": "skin:0.4"}),
    Sample("the hires fix", HIRES, HIRES_READ),
    Sample("latents are enlarged", {**HIRES, "7": ("LatentUpscaleBy", {"samples": ["5", 0], "scale_by": 1.5}),
                                    "9": ("KSampler", {**HIRES["9"][1], "latent_image": ["7", 0]}), "8": None},
           HIRES_READ, ["7 LatentUpscaleBy", "6 VAEDecode"]),
    Sample("faces", {"15": ("SaveImage", {"images": ["12", 0]}),
                     "11": ("FaceRestoreModelLoader", {"model_name": "codeformer.pth"}),
                     "12": ("FaceRestoreCFWithModel", {"facerestore_model": ["11", 0], "image": ["6", 0],
                                                       "facedetection": "retinaface_resnet50", "codeformer_fidelity": 0.7})},
           {"restorer": "codeformer", "weight": 0.7, "detector": "retinaface_resnet50"}),
    Sample("a node that is unknown", {"5": ("KSampler", {**GRAPH["5"][1], "model": ["20", 0]}),
                                      "20": ("FreeU_V2", {"model": ["1", 0], "b1": 1.1})}, {}, ["20 FreeU_V2"]),
    Sample("steps that are none", {"5": ("KSampler", {**GRAPH["5"][1], "steps": "many"})},
           {"steps": 35}, ["5 KSampler, steps"]),
]  # fmt: skip


def written(nodes: dict[str, tuple[str, dict[str, object]] | None]) -> str:
    return json.dumps({number: {"class_type": node[0], "inputs": node[1]} for number, node in nodes.items() if node})


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.about)
def test_what_comfyui_has_written_is_read(sample: Sample) -> None:
    check(read_text(written({**GRAPH, **sample.change})), READ, sample)


@pytest.mark.parametrize(
    "text", ["{", "[]", "", '{"nodes": [], "links": []}', '{"1": {"class_type": "Note", "inputs": {}}}']
)
def test_what_is_no_graph_that_makes_a_picture_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(NotUnderstood):
        read_text(text, "comfyui")


def test_what_comfyui_cannot_say_is_named_and_the_rest_comes_back() -> None:
    round_trip("comfyui", 8)


def test_no_mutated_graph_breaks_the_reading() -> None:
    mutated("comfyui", 100)


def test_the_steps_that_run_are_those_of_the_graph() -> None:
    there = export_settings(Settings(model="realvis5", refiner="base"), "comfyui")
    steps = [node["inputs"]["steps"] for node in json.loads(there.text).values() if node["class_type"] == "KSampler"]
    assert (steps, there.unmapped) == ([35, 8], {})


def test_a_text_that_a_node_changes_is_not_taken_unchanged() -> None:
    nodes = {
        "2": ("CLIPTextEncode", {"clip": ["1", 1], "text": ["20", 0]}),
        "20": ("StringReplace", {"string": "photo of Ada", "find": "Ada", "replace": "Eva"}),
    }
    found = read_text(written({**GRAPH, **nodes}))
    assert found.settings.prompt == "" and any("is not understood" in why for why in found.unmapped.values())
