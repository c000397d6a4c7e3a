"""SwarmUI's parameters of a picture, as settings and back: JSON whose values may all be texts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from workbench.errors import NotUnderstood
from workbench.files import PARAMETERS
from workbench.settings import Settings, Weighted, short_name

from .comfy_sampling import comfy_names, read_comfy_sampler, take_hires_sampler, take_sampler
from .exchange import ExchangeFormat, Exported, Imported
from .file_names import each_once, read_lora, take_file, upscaler_name, without_folders
from .gathering import Gathering
from .json_values import Entries, as_number, looks_like_object, read_object, shown, shown_entry, take
from .losses import lost
from .weighted_texts import Sections, comfy_text, has_weights, loras_of, read_comfy, sections_of, take_texts

PARAMS = "sui_image_params"
UNSAID: dict[str, object] = {
    "negative_prompt": "", "hires": False, "detail": False, "restorer": "none", "upscaler": "none", "refiner": "base",
    "strength_steps": "scaled", "seed": -1,
}  # fmt: skip
"""What SwarmUI does where it says nothing."""
RESAMPLERS = {"lanczos": "lanczos", "bicubic": "bicubic", "bilinear": "bilinear", "nearest-exact": "nearest"}
"""{SwarmUI's name of a filter, behind "pixel-": ours}."""
INFORMATION = (
    "swarm_version", "swarmversion", "aspectratio", "images", "batchsize", "automaticvae", "date", "generation_time",
    "originalprompt", "originalnegativeprompt", "personalnote", "imageformat", "donotsave", "debugregionalprompting",
)  # fmt: skip
"""Parameters that say nothing of how one picture is made."""
WHY = {
    "initimage": "pictures are made from text here", "controlnet": "there is no control by another picture",
    "variationseed": "there are no variation seeds", "variationseedstrength": "there are no variation seeds",
    "loratencweights": "one weight counts for the UNet and the text encoders", "video": "only pictures are made here",
    "refinervae": "both passes have the same VAE here",
}  # fmt: skip
"""{how a parameter begins: why it has no counterpart}."""
TAG = re.compile(r"<(/?[\w-]+)(?:\[[^\]<>]*\])?(?::([^<>]*))?>")
BREAK = re.compile(r"\s*<break>\s*", re.IGNORECASE)
BASE_FACE = "SwarmUI finds and masks faces by another network, with numbers of its own"
FACE_NUMBERS = (
    "detail_size",
    "detail_faces",
    "detail_confidence",
    "detail_padding",
    "detail_mask",
    "detail_dilate",
    "detail_blur",
)
SEED = "SwarmUI draws noise in another order; whether the seed gives the same picture was not measured."
WEIGHTS = "Weights of words count otherwise: SwarmUI does not bring the mean back to what it was."
THRESHOLD = 0.5  # of a segment, where SwarmUI is told none


class Swarm(ExchangeFormat):
    name, title, suffix = "swarmui", "SwarmUI parameters", ".json"

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        text = json.dumps({PARAMS: _params(s)}, ensure_ascii=False, indent=1) + "\n"
        unmapped = lost(without_folders(s), self.read(text).settings, _reasons(s))
        if s.detail:
            unmapped |= dict.fromkeys(FACE_NUMBERS, BASE_FACE)
        weighted = any(has_weights(sections_of(s, each)) for each in ("prompt", "negative_prompt"))
        return Exported(text, unmapped, (SEED, *([WEIGHTS] if weighted else [])))

    def find(self, texts: Mapping[str, str]) -> str | None:
        text = texts.get(PARAMETERS, "")
        return text if self.recognises(text) else None

    def recognises(self, text: str) -> bool:
        return looks_like_object(text) and f'"{PARAMS}"' in text

    def read(self, text: str) -> Imported:
        whole = read_object(text, "SwarmUI parameters")
        params = whole.get(PARAMS)
        if not isinstance(params, dict):
            raise NotUnderstood(
                f'the text is no SwarmUI parameters: it has no "{PARAMS}" with an object; copy all of it.'
            )
        said, gathering = Entries({_id(name): value for name, value in params.items()}), Gathering(UNSAID)
        for entry in ("width", "height", "steps", "seed"):
            said.into(gathering, entry, entry)
        said.into(gathering, "cfgscale", "base_cfg")
        gathering.values["refine_cfg"] = gathering.values.get("base_cfg", 7.0)
        _take_sampling(gathering, said)
        _take_models(gathering, said)
        _take_prompts(gathering, said)
        said.drop(*INFORMATION)
        said.tell_left(gathering, WHY)
        gathering.notes.append(SEED)
        return gathering.finish("SwarmUI")


def _id(name: str) -> str:
    """A parameter's id: its name in lower case, letters only."""
    return name if name == "swarm_version" else re.sub(r"[^a-z]", "", name.lower())


# --- writing -------------------------------------------------------------------------------------------------------


def _params(s: Settings) -> dict[str, object]:
    sampler, scheduler = comfy_names(s, "base")
    loras = loras_of(s, "prompt")
    found: dict[str, object] = {
        "prompt": _prompt(s), "negativeprompt": _text(s, "negative_prompt"), "model": short_name(s.model), "seed": s.seed,
        "steps": s.steps, "cfgscale": s.base_cfg, "width": s.width, "height": s.height, "sampler": sampler,
        "scheduler": scheduler,
    }  # fmt: skip
    found |= {"vae": short_name(s.vae)} if s.vae else {}
    found |= {"clipstopatlayer": -2 - s.clip_skip} if s.clip_skip else {}
    if loras:
        found |= {"loras": [item.name for item in loras], "loraweights": [repr(item.weight) for item in loras]}
    return found | (_hires(s) if s.hires else {})


def _hires(s: Settings) -> dict[str, object]:
    sampler, scheduler = comfy_names(s, "refine")
    theirs = next((name for name, ours in RESAMPLERS.items() if ours == s.resampler), None)
    other = {} if s.refiner in ("auto", "base") else {"refinermodel": short_name(s.refiner)}
    return {
        **other,
        "refinermethod": "PostApply", "refinercontrolpercentage": _control(s), "refinerupscale": s.hires_scale,
        "refinerupscalemethod": f"pixel-{theirs}" if theirs else f"model-{upscaler_name(s.resampler)}",
        "refinersteps": s.refine_schedule_steps, "refinercfgscale": s.refine_cfg, "refinersampler": sampler,
        "refinerscheduler": scheduler,
    }  # fmt: skip


def _control(s: Settings) -> float:
    """The strength, or what makes as many steps run there, where they are counted otherwise here."""
    whole, run = s.refine_schedule_steps, s.refine_evaluations
    near = [s.strength, *(round(run / whole + 10**-digits / 2, digits) for digits in (2, 3, 4)), run / whole]
    return next((each for each in near if 0 < each <= 1 and int(whole * each) == run), s.strength)


def _text(s: Settings, name: str) -> str:
    return " <break> ".join(comfy_text(parts) for parts in sections_of(s, name))


def _prompt(s: Settings) -> str:
    text = _text(s, "prompt")
    if not s.detail:
        return text
    words = _text(s, "detail_prompt") if s.detail_prompt.strip() else text
    return f"{text} <segment:face,{s.detail_strength!r},{THRESHOLD}> {words}"


def _reasons(s: Settings) -> dict[str, str]:
    nothing = "SwarmUI has none of its own there"
    return {
        "restorer": "SwarmUI has no face restorer",
        "upscaler": "SwarmUI enlarges before the refiner, not the finished picture",
        "schedule": "the model's own schedule has no name there; 'normal' is the nearest",
        "hires_schedule": "the model's own schedule has no name there; 'normal' is the nearest",
        "refiner": "SwarmUI takes one file for it, and which it is is not known here",
        "hires_prompt": nothing, "hires_negative_prompt": nothing, "detail_negative_prompt": nothing,
        "detail_cfg": nothing, "detail_sampler": nothing,
        "detail_steps": "SwarmUI takes as many steps for a face as for the base",
    }  # fmt: skip


# --- reading -------------------------------------------------------------------------------------------------------


def _take_sampling(gathering: Gathering, said: Entries) -> None:
    sampler, scheduler = said.take("sampler"), said.take("scheduler")
    nothing = sampler is None and scheduler is None
    base = read_comfy_sampler("dpmpp_2m" if sampler is None else sampler, "karras" if nothing else scheduler)
    words = f"{said.words('sampler')}, {said.words('scheduler')}"
    guess = "no sampler is said; this is the usual one." if sampler is None else base.guess
    take_sampler(gathering, base._replace(guess=guess), words)
    _take_clip(gathering, said)
    control = said.peek("refinercontrolpercentage")
    method = said.peek("refinermethod")
    if control is None and method is None:
        return
    if method is not None and str(method).strip().lower() != "postapply":
        for entry in ("refinermethod", "refinercontrolpercentage", "refinerupscale", "refinersteps", "refinercfgscale",
                      "refinermodel", "refinersampler", "refinerscheduler", "refinerupscalemethod"):  # fmt: skip
            if (value := said.take(entry)) is not None:
                gathering.cannot(
                    shown_entry(entry, value),
                    "the base hands over to the refiner in the middle of its steps; here the finished picture is refined",
                )
        return
    _take_hires(gathering, said)
    name, spoken = said.take("refinersampler"), said.take("refinerscheduler")
    if name is not None or spoken is not None:
        found = read_comfy_sampler(sampler if name is None else name, scheduler if spoken is None else spoken)
        words = f"{said.words('refinersampler')}, {said.words('refinerscheduler')}"
        take_hires_sampler(gathering, found, base, words)


def _take_hires(gathering: Gathering, said: Entries) -> None:
    gathering.take("hires", True, "refinermethod: PostApply")
    said.drop("refinermethod")
    if (
        not said.into(gathering, "refinercontrolpercentage", "strength")
        and said.peek("refinercontrolpercentage") is None
    ):
        gathering.take("strength", 0.2, "refinercontrolpercentage is not said", "0.2 is what SwarmUI begins with.")
    if said.take("refinerupscale") is None:
        gathering.take("hires_scale", 1.0, "refinerupscale is not said")
    else:
        take(gathering, "hires_scale", said.peek("refinerupscale"), said.words("refinerupscale"))
    if said.take("refinersteps") is None:
        gathering.take("refine_steps", gathering.values.get("steps", 20), "refinersteps: as many as steps")
    else:
        take(gathering, "refine_steps", said.peek("refinersteps"), said.words("refinersteps"))
    said.into(gathering, "refinercfgscale", "refine_cfg")
    _take_resampler(gathering, said)
    model = said.take("refinermodel")
    if model is not None and str(model).strip() not in ("(Use Base)", "", "None"):
        take_file(gathering, "refiner", model, "refiner", said.words("refinermodel"))


def _take_resampler(gathering: Gathering, said: Entries) -> None:
    method, words = said.take("refinerupscalemethod"), said.words("refinerupscalemethod")
    if method is None:
        return
    kind, _, name = str(method).partition("-")
    if kind == "pixel" and name in RESAMPLERS:
        gathering.take("resampler", RESAMPLERS[name], words)
    elif kind == "model" and name:
        take_file(gathering, "resampler", name, "upscaler", words)
    else:
        why = "latents are not enlarged here" if kind == "latent" else "there is no such filter"
        gathering.cannot(words, f"{why}; the picture is, by Lanczos")
        gathering.values["resampler"] = "lanczos"


def _take_clip(gathering: Gathering, said: Entries) -> None:
    layer, words = said.take("clipstopatlayer"), said.words("clipstopatlayer")
    if layer is None:
        return
    number = as_number(layer)
    if type(number) is not int or number >= 0:
        gathering.cannot(words, "it must be a whole number below 0: how many layers from the end is stopped")
    elif number == -1:
        gathering.cannot(words, "SDXL reads the layer before the last, and no later one here")
    else:
        gathering.take("clip_skip", -2 - number, words)


def _take_models(gathering: Gathering, said: Entries) -> None:
    for entry, kind in (("model", "base"), ("vae", "vae")):
        value = said.take(entry)
        if value is not None and str(value).strip() not in ("", "None", "Automatic", "(none)"):
            take_file(gathering, entry, value, kind, said.words(entry))


def _listed(value: object) -> list[object]:
    """A list, or one that is written as a text with commas."""
    if isinstance(value, list):
        return value
    return [each.strip() for each in value.split(",")] if isinstance(value, str) and value.strip() else []


def _take_prompts(gathering: Gathering, said: Entries) -> None:
    loras, weights = _listed(said.peek("loras")), _listed(said.peek("loraweights"))
    if isinstance(said.peek("loras"), list | str):
        said.drop("loras", "loraweights")
        if said.peek("loratencweights") == said.peek("loraweights"):
            said.drop("loratencweights")
    items: list[tuple[Weighted | None, str]] = []
    for number, name in enumerate(loras):
        weight = weights[number] if number < len(weights) else 1.0
        words = f"loras: {shown(name)}, {shown(weight)}"
        items.append((read_lora(gathering, name, weight, words), words))
    texts: dict[str, tuple[Sections, str]] = {}
    base, pieces = _without_tags(gathering, said.text("prompt"), "prompt", items)
    texts["prompt"] = (_sections(base), said.words("prompt"))
    for tag, inside, text in pieces:
        _take_segment(gathering, tag, inside, text, base, texts)
    negative, others = _without_tags(gathering, said.text("negativeprompt"), "negativeprompt", [])
    if negative:
        texts["negative_prompt"] = (_sections(negative), said.words("negativeprompt"))
    for tag, _, text in others:
        gathering.cannot(f"negativeprompt: {tag} {shown(text)}".strip(), "a negative prompt has no parts here")
    found = each_once(gathering, items)
    take_texts(gathering, texts, dict.fromkeys((name for name in texts if "negative" not in name), found))


def _sections(text: str) -> Sections:
    return [read_comfy(part) for part in BREAK.split(text)]


def _without_tags(
    gathering: Gathering, text: str, name: str, loras: list[tuple[Weighted | None, str]]
) -> tuple[str, list[tuple[str, str, str]]]:
    """(the words of the picture, [(tag, what stands in it, the words behind it)] of the tags that begin another part)."""
    parts: list[tuple[str, str, str]] = [("", "", "")]
    end = 0
    for found in TAG.finditer(text):
        before, kind = text[end : found.start()], found[1].lower()
        end = found.end()
        parts[-1] = (*parts[-1][:2], parts[-1][2] + before)
        if kind == "break":
            parts[-1] = (*parts[-1][:2], f"{parts[-1][2]}<break>")
        elif kind == "lora" and name == "prompt" and len(parts) == 1:
            file, _, weight = (found[2] or "").partition(":")
            loras.append((read_lora(gathering, file, weight or 1.0, f"{name}: {found[0]}"), f"{name}: {found[0]}"))
        elif kind in ("segment", "refiner", "base", "object", "region", "video", "clear", "extend"):
            parts.append((found[0], found[2] or "", ""))
        else:
            gathering.cannot(f"{name}: {shown(found[0])}", f"the workbench has no '{kind}' in prompts")
    parts[-1] = (*parts[-1][:2], parts[-1][2] + text[end:])
    return parts[0][2].strip(), [(tag, inside, words.strip()) for tag, inside, words in parts[1:]]


def _take_segment(
    gathering: Gathering, tag: str, inside: str, text: str, base: str, texts: dict[str, tuple[Sections, str]]
) -> None:
    """A face that is refined; other segments, and a second one, have no counterpart."""
    what, *numbers = [each.strip() for each in inside.split(",")]
    words = f"prompt: {shown(tag)} {shown(text)}".strip()
    if not tag.lower().startswith("<segment") or "face" not in what.lower() or "detail" in gathering.read:
        gathering.cannot(words, "only faces are refined by themselves here, all of them in one way")
        return
    gathering.take("detail", True, words)
    strength = numbers[0] if numbers and numbers[0] else "0.6"
    take(gathering, "detail_strength", strength, words)
    gathering.take(
        "detail_steps", gathering.values.get("steps", 20), words, "SwarmUI takes as many as the base's steps."
    )
    gathering.guessed["detail"] = f"{BASE_FACE}; those of ours stand as they are."
    if len(numbers) > 1 and as_number(numbers[1]) != THRESHOLD:
        gathering.cannot(
            f"prompt: {shown(tag)}: threshold {shown(numbers[1])}", "faces are found by another network here"
        )
    if text and text != base:
        texts["detail_prompt"] = (_sections(text), words)
