"""InvokeAI's metadata of a picture, as settings and back."""

from __future__ import annotations

import json
from collections.abc import Mapping

from workbench.settings import Settings, Weighted, short_name

from .comfy_sampling import invoke_name, read_invoke_sampler, take_sampler
from .exchange import ExchangeFormat, Exported, Imported
from .file_names import each_once, read_lora, take_file, without_folders
from .gathering import Gathering
from .json_values import Entries, looks_like_object, read_object, shown_entry, truth
from .losses import lost
from .weighted_texts import COMPEL_CALL, compel_text, has_weights, loras_of, read_compel, sections_of, take_texts

CHUNK = "invokeai_metadata"
LARGEST_SEED = 2**32 - 1
UNSAID: dict[str, object] = {
    "negative_prompt": "", "hires": False, "detail": False, "restorer": "none", "upscaler": "none", "refiner": "base",
    "seed": -1,
}  # fmt: skip
"""What InvokeAI does where its metadata say nothing."""
INFORMATION = (
    "app_version", "created_by", "generation_mode", "rand_device", "key", "hrf_method", "ref_images", "_canvas_objects",
    "upload_date", "image_name", "dtype",
)  # fmt: skip
WHY = {
    "refiner": "the base hands over to a refiner in the middle of its steps there; here the finished picture is refined",
    "positive_style": "the second text encoder reads the same prompt here",
    "negative_style": "the second text encoder reads the same prompt here",
    "control": "there is no control by another picture",
    "ipadapter": "there is no control by another picture", "ip_adapter": "there is no control by another picture",
    "t2iadapter": "there is no control by another picture", "t2i_adapter": "there is no control by another picture",
    "regions": "prompts have no regions",
    "upscale": "how InvokeAI enlarges a finished picture is another method",
    "strength": "it is of img2img, and pictures are made from text here",
    "init_image": "pictures are made from text here",
}  # fmt: skip
"""{how an entry begins: why it has no counterpart}."""
SEED = "Both draw noise on the processor, for diffusers' samplers; whether the seed gives the same picture was not measured."
SEED_BACK = "InvokeAI drew this noise on the graphics card, so the seed gives another picture here."
WEIGHTS = "Weights of words count otherwise: InvokeAI does not bring the mean back to what it was."
HANDOVER = "InvokeAI has no pass of its own over a finished, enlarged picture in its metadata"


class Invoke(ExchangeFormat):
    name, title, suffix = "invokeai", "InvokeAI metadata", ".json"

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        text = json.dumps(_metadata(s), ensure_ascii=False, indent=1) + "\n"
        notes = [
            SEED,
            *([WEIGHTS] if any(has_weights(sections_of(s, each)) for each in ("prompt", "negative_prompt")) else []),
        ]
        return Exported(text, lost(without_folders(s), self.read(text).settings, _reasons(s)), tuple(notes))

    def find(self, texts: Mapping[str, str]) -> str | None:
        return texts.get(CHUNK)

    def recognises(self, text: str) -> bool:
        return looks_like_object(text) and '"positive_prompt"' in text

    def read(self, text: str) -> Imported:
        said, gathering = Entries(read_object(text, "InvokeAI metadata")), Gathering(UNSAID)
        for entry, setting in (("width", "width"), ("height", "height"), ("steps", "steps"), ("seed", "seed"),
                               ("clip_skip", "clip_skip"), ("cfg_scale", "base_cfg")):  # fmt: skip
            said.into(gathering, entry, setting)
        gathering.values["refine_cfg"] = gathering.values.get("base_cfg", 7.0)
        if (scheduler := said.take("scheduler")) is not None:
            take_sampler(gathering, read_invoke_sampler(scheduler), said.words("scheduler"))
        _take_models(gathering, said)
        _take_prompts(gathering, said)
        _take_hires(gathering, said)
        if isinstance(device := said.peek("rand_device"), str) and device.lower() != "cpu":
            gathering.notes.append(SEED_BACK)
        else:
            gathering.notes.append(SEED)
        if "img2img" not in str(said.peek("generation_mode")) and "inpaint" not in str(said.peek("generation_mode")):
            said.drop("strength")
        said.drop(*INFORMATION)
        said.tell_left(gathering, WHY)
        return gathering.finish("InvokeAI")


def _metadata(s: Settings) -> dict[str, object]:
    """What InvokeAI writes of such a picture."""
    found: dict[str, object] = {
        "generation_mode": "sdxl_txt2img",
        "positive_prompt": _text(s, "prompt"),
        "negative_prompt": _text(s, "negative_prompt"),
        "width": s.width, "height": s.height, "rand_device": "cpu", "cfg_scale": s.base_cfg, "cfg_rescale_multiplier": 0,
        "steps": s.steps, "scheduler": invoke_name(s), "clip_skip": s.clip_skip, "model": _model(short_name(s.model), "main"),
        "loras": [{"model": _model(item.name, "lora"), "weight": item.weight} for item in loras_of(s, "prompt")],
    }  # fmt: skip
    found |= {"seed": s.seed} if 0 <= s.seed <= LARGEST_SEED else {}
    return found | ({"vae": _model(short_name(s.vae), "vae")} if s.vae else {})


def _text(s: Settings, name: str) -> str:
    return ", ".join(compel_text(parts) for parts in sections_of(s, name))


def _model(name: str, kind: str) -> dict[str, str]:
    return {"name": name, "base": "sdxl", "type": kind}


def _reasons(s: Settings) -> dict[str, str]:
    nothing = "InvokeAI's metadata have no place for it"
    stages = {"hires": HANDOVER, "detail": "InvokeAI has no face detailer", "restorer": "InvokeAI has no face restorer",
              "upscaler": "InvokeAI enlarges finished pictures by another method"}  # fmt: skip
    words = "BREAK is not there" if len(sections_of(s, "prompt")) + len(sections_of(s, "negative_prompt")) > 2 else (
        "a word that ends in + or - is weighted there")  # fmt: skip
    named = "InvokeAI's schedulers are the model's own or Karras"
    seed = (
        "a seed is drawn anew there where none is said" if s.seed < 0 else f"InvokeAI takes seeds up to {LARGEST_SEED}"
    )
    return {"prompt": words, "negative_prompt": words, "schedule": named, "seed": seed, "dtype": nothing, **stages}


def _take_models(gathering: Gathering, said: Entries) -> None:
    for entry, setting, kind in (("model", "model", "base"), ("vae", "vae", "vae")):
        if (value := said.take(entry)) is not None:
            take_file(gathering, setting, _named(value), kind, said.words(entry))
    listed = said.peek("loras")
    if isinstance(listed, list):
        said.take("loras")


def _named(value: object) -> object:
    """The name of a model, of whatever version of InvokeAI."""
    if isinstance(value, dict):
        return value.get("name") or value.get("model_name")
    return value


def _loras(gathering: Gathering, said: Entries) -> list[Weighted]:
    listed = said.peek("loras")
    found: list[tuple[Weighted | None, str]] = []
    for each in listed if isinstance(listed, list) else []:
        words = shown_entry("loras", each)
        entry = each if isinstance(each, dict) else {}
        model = _named(entry.get("model") or entry.get("lora") or entry.get("model_name"))
        found.append((read_lora(gathering, model, entry.get("weight"), words), words))
    return each_once(gathering, found)


def _take_prompts(gathering: Gathering, said: Entries) -> None:
    texts = {}
    for entry, setting in (("positive_prompt", "prompt"), ("negative_prompt", "negative_prompt")):
        text = said.text(entry)
        if call := COMPEL_CALL.search(text):
            gathering.cannot(f"{entry}: {call[0]}…)", "prompts are not blended here; its words are read as they stand")
        style = entry.replace("_prompt", "_style_prompt")
        if said.peek(style) in (text, ""):
            said.drop(style)
        if text or setting == "prompt":
            texts[setting] = ([read_compel(text)], said.words(entry))
    take_texts(gathering, texts, {"prompt": _loras(gathering, said)})


def _take_hires(gathering: Gathering, said: Entries) -> None:
    """The high resolution fix of InvokeAI 3 and 4, which refines with the base's own steps."""
    if not truth(said.take("hrf_enabled")):
        said.drop("hrf_strength")
        return
    why = "InvokeAI does not say by how much it enlarges, nor how many steps it then takes: "
    steps = gathering.values.get("steps", 35)
    gathering.take("hires", True, "hrf_enabled: true")
    said.into(gathering, "hrf_strength", "strength")
    gathering.take("hires_scale", 1.5, "hrf_enabled: true", f"{why}1.5 is usual.")
    gathering.take("refine_steps", steps, "hrf_enabled: true", f"{why}as many as the base's were taken.")
    method = said.take("hrf_method")
    if isinstance(method, str) and method.upper() == "ESRGAN":
        gathering.take(
            "resampler",
            "realesrgan-x4plus",
            said.words("hrf_method"),
            "which network it was is not said; this one is usual.",
        )
