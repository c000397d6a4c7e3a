"""Texts as A1111, Forge, ADetailer and Civitai write them (invented), and what is to be read from them."""

from __future__ import annotations

from typing import Any, NamedTuple

DONE = {"hires": False, "restorer": "none", "upscaler": "none", "detail": False}


class Sample(NamedTuple):
    """Attributes: expected: {setting: value}; unmapped, guessed: words that must stand there, and no others may."""

    name: str
    text: str
    expected: dict[str, Any]
    unmapped: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()


def line(**more: object) -> str:
    """A line of fields; an underscore in a name is a space."""
    fields = {"Steps": 20, "Sampler": "Euler a", "CFG scale": 5, "Seed": 1, "Size": "832x1216"} | more
    return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in fields.items() if value is not None)


def hires(**more: object) -> str:
    return line(
        **({"Denoising strength": 0.3, "Hires upscale": 1.5, "Hires upscaler": "Lanczos", "Hires steps": 8} | more)
    )


def detailed(**more: object) -> str:
    return line(**({"ADetailer model": "face_yolov8n.pt"} | more))


FACES, STEPS = "detail", "detail_steps"
EULER_A = {"sampler": "Euler a", "schedule": "auto"}
SAMPLES = (
    Sample("plain", f"a face\nNegative prompt: cgi\n{line()}", {
        "prompt": "a face", "negative_prompt": "cgi", "steps": 20, "base_cfg": 5.0, "refine_cfg": 5.0, "seed": 1,
        "width": 832, "height": 1216, **EULER_A, **DONE, "refiner": "base",
    }),
    Sample("no negative prompt", f"a face\n{line()}", {"prompt": "a face", "negative_prompt": ""}),
    Sample("no prompt", line(), {"prompt": "", "steps": 20}),
    Sample("weights", f"(face:1.2), [dark], ((soft))\nNegative prompt: (cgi:1.4)\n{line()}", {
        "prompt": "(face:1.2), [dark], ((soft))", "negative_prompt": "(cgi:1.4)", "prompt_syntax": "webui"}),
    Sample("newlines", f"one\ntwo\n\nthree\nNegative prompt: four\nfive\n{line()}", {
        "prompt": "one\ntwo\n\nthree", "negative_prompt": "four\nfive"}),
    Sample("colons and quotes", f'she said: "no", 12:30\nNegative prompt: a: b\n{line()}', {
        "prompt": 'she said: "no", 12:30', "negative_prompt": "a: b"}),
    Sample("unicode", f"Gesicht, ñandú, 顔, 🙂\nNegative prompt: тень\n{line()}", {
        "prompt": "Gesicht, ñandú, 顔, 🙂", "negative_prompt": "тень"}),
    Sample("a prompt that looks like fields", f"Steps: 9, Seed: 8, Sampler: LCM\n{line()}", {
        "prompt": "Steps: 9, Seed: 8, Sampler: LCM", "steps": 20, "seed": 1}),
    Sample("Windows' line ends", f"a\r\nNegative prompt: b\r\n{line()}\r\n", {"prompt": "a", "negative_prompt": "b"}),
    Sample("sampler and schedule in one word", f"x\n{line(Sampler='DPM++ 2M SDE Karras')}", {
        "sampler": "DPM++ 2M SDE Karras", "schedule": "auto"}),
    Sample("an older schedule in one word", f"x\n{line(Sampler='DPM++ 2M SDE Exponential')}", {
        "sampler": "DPM++ 2M SDE", "schedule": "Exponential"}),
    Sample("a schedule apart", f"x\n{line(Sampler='Euler', Schedule_type='SGM Uniform')}", {
        "sampler": "Euler", "schedule": "SGM Uniform"}),
    Sample("an automatic schedule", f"x\n{line(Sampler='DPM++ 2M', Schedule_type='Automatic')}", {
        "sampler": "DPM++ 2M Karras", "schedule": "auto"}),
    Sample("a sampler that there is not", f"x\n{line(Sampler='DPM++ 3M SDE', Schedule_type='Exponential')}", {
        "sampler": "DPM++ 2M SDE", "schedule": "Exponential"}, guessed=("sampler", "schedule")),
    Sample("Heun", f"x\n{line(Sampler='Heun')}", {"sampler": "DPM++ 2M Karras"}, guessed=("sampler", "schedule")),
    Sample("a schedule that its sampler cannot have here", f"x\n{line(Sampler='Euler a', Schedule_type='Karras')}", EULER_A,
           guessed=("sampler", "schedule")),
    Sample("a name of ComfyUI's", f"x\n{line(Sampler='dpmpp_sde', Schedule_type='karras')}", {
        "sampler": "DPM++ SDE Karras", "schedule": "auto"}),
    Sample("the hires fix", f"x\n{hires(Hires_sampler='Use same sampler')}", {
        "hires": True, "strength": 0.3, "hires_scale": 1.5, "resampler": "lanczos", "refine_steps": 8,
        "strength_steps": "fixed", "hires_sampler": "same", "hires_schedule": "same", "refine_cfg": 5.0, "hires_prompt": ""}),
    Sample("as many hires steps as of the base", f"x\n{hires(Hires_steps=0)}", {
        "refine_steps": 20, "strength_steps": "fixed"}),
    Sample("a size of the hires fix", f"x\n{hires(Hires_upscale=None, Hires_resize='1248x1824')}", {"hires_scale": 1.5}),
    Sample("a width of the hires fix alone", f"x\n{hires(Hires_upscale=None, Hires_resize='1664x0')}", {"hires_scale": 2.0}),
    Sample("a size in other proportions", f"x\n{hires(Hires_resize='1024x1024')}", {}, guessed=("hires_scale",)),
    Sample("latents", f"x\n{hires(Hires_upscaler='Latent (nearest)')}", {"resampler": "lanczos"}, guessed=("resampler",)),
    Sample("an upscaler by its file", f"x\n{hires(Hires_upscaler='4x-UltraSharp')}", {"resampler": "4x-UltraSharp"},
           guessed=("resampler",)),
    Sample("A1111's own upscaler", f"x\n{hires(Hires_upscaler='R-ESRGAN 4x+')}", {"resampler": "realesrgan-x4plus"}),
    Sample("prompts, sampler and CFG of the hires fix", "x\n" + hires(
        Hires_prompt='"skin, \\"pores\\": sharp\\nsoft"', Hires_negative_prompt="cgi", Hires_sampler="DPM++ 2M",
        Hires_schedule_type="Karras", Hires_CFG_Scale=3.5), {
        "hires_prompt": 'skin, "pores": sharp\nsoft', "hires_negative_prompt": "cgi", "hires_sampler": "DPM++ 2M Karras",
        "hires_schedule": "auto", "refine_cfg": 3.5, "base_cfg": 5.0}),
    Sample("another checkpoint for the hires fix", f"x\n{hires(Hires_checkpoint='deep.safetensors [0123456789]')}", {
        "refiner": "deep.safetensors"}, guessed=("refiner",)),
    Sample("a first pass", f"x\n{line(Size='1664x2432', First_pass_size='832x1216', Denoising_strength=0.4)}", {
        "width": 832, "height": 1216, "hires": True, "hires_scale": 2.0, "strength": 0.4, "refine_steps": 20},
        guessed=("resampler",)),
    Sample("models by name and hash", "x\n" + line(
        Model_hash="0123456789", Model="realvis5", VAE_hash="ab", VAE="soft.safetensors"), {
        "model": "realvis5", "vae": "soft.safetensors"}, guessed=("model", "vae")),
    Sample("faces restored", f"x\n{line(Face_restoration='CodeFormer', CodeFormer_Weight=0.35, CodeFormer_Visibility=0.8)}", {
        "restorer": "codeformer", "weight": 0.35, "restore_visibility": 0.8}),
    Sample("faces restored afterwards", f"x\n{line(CodeFormer_visibility=1, CodeFormer_weight=0.5)}", {
        "restorer": "codeformer", "weight": 0.5, "restore_visibility": 1.0}),
    Sample("GFPGAN", f"x\n{line(Face_restoration='GFPGAN')}", {"restorer": "GFPGAN"}, guessed=("restorer",)),
    Sample("enlarged afterwards", f"x\n{line(Postprocess_upscaler='R-ESRGAN 4x+', Postprocess_upscale_by=4)}", {
        "upscaler": "realesrgan-x4plus", "upscale_factor": 4}),
    Sample("ADetailer as it comes", f"x\n{detailed(ADetailer_confidence=0.3, ADetailer_version='25.3.0')}", {
        "detail": True, "detail_strength": 0.4, "detail_steps": 20, "strength_steps": "scaled", "detail_dilate": 4,
        "detail_blur": 4, "detail_padding": 32, "detail_size": 1216, "detail_mask": "box", "detail_faces": 32,
        "detail_cfg": 0.0},
        unmapped=("ADetailer confidence",), guessed=(FACES,)),
    Sample("ADetailer with steps of its own", "x\n" + detailed(
        ADetailer_steps=30, ADetailer_use_separate_steps=True, ADetailer_CFG_scale=9, ADetailer_sampler="Euler",
        ADetailer_use_separate_sampler=True, ADetailer_prompt='"[PROMPT], eyes"', ADetailer_mask_only_top_k=2), {
        "detail_steps": 30, "detail_cfg": 0.0, "detail_sampler": "Euler", "detail_prompt": "x, eyes", "detail_faces": 2},
        guessed=(FACES,)),
    Sample("a second ADetailer", f"x\n{detailed(**{'ADetailer model 2nd': 'hand_yolov8n.pt'})}", {"detail": True},
           unmapped=("ADetailer model 2nd",), guessed=(FACES,)),
    Sample("ADetailer on hands", f"x\n{line(ADetailer_model='hand_yolov8n.pt')}", DONE, unmapped=("ADetailer model",)),
    Sample("tags of LoRAs", f"a face, soft <lora:skin:0.4> <lora:eyes:1>\n{line()}", {
        "prompt": "a face, soft", "loras": "skin:0.4, eyes:1"}),
    Sample("a tag within the words", f"a <lora:skin:0.4> face\n{line()}", {"prompt": "a <lora:skin:0.4> face", "loras": ""}),
    Sample("a hypernetwork, and a tag of two weights", f"x <hypernet:old:1> <lora:skin:0.4:0.7>\n{line()}", {
        "loras": "skin:0.4"},
           unmapped=("prompt: <hypernet:old:1>", "prompt: <lora:skin:0.4:0.7>")),
    Sample("prompt editing", f"[day:night:0.5] AND [a|b] {{x|y}}\n{line()}", {
        "prompt": "night and a x"}, guessed=("prompt",)),
    Sample("a refiner in between, a variation, and what nobody knows",
           f"x\n{line(Refiner='r [0123456789]', Refiner_switch_at=0.8, Variation_seed=3, Glow=7)}", DONE,
           unmapped=("Refiner: r", "Refiner switch at", "Variation seed", "Glow: 7")),
    Sample("values out of range", f"x\n{line(Steps=900, CFG_scale=0.5, Size='833x1216', Clip_skip='two')}", {
        "steps": 35, "width": 832, "height": 1216},
        unmapped=("Steps: 900", "CFG scale: 0.5", "Clip skip"), guessed=("width",)),
    Sample("templates below", f"x\n{line()}\nTemplate: {{x|y}}, z: 1\nNegative Template: cgi", {"prompt": "x", "steps": 20},
           unmapped=("Template", "Negative Template")),
    Sample("Clip skip 2 is what SDXL reads", f"x\n{line(Clip_skip=2)}", {"clip_skip": 0}),
    Sample("Clip skip 3", f"x\n{line(Clip_skip=3)}", {"clip_skip": 1}),
    Sample("Forge", f"x\n{line(Schedule_type='Automatic', Module_1='vae', Version='f2.0.1v1.10.1')}", EULER_A,
           unmapped=("Module 1: vae",)),
    Sample("noise of the processor", f"x\n{line(RNG='CPU', Version='v1.10.1')}", {"seed": 1}),
    Sample("img2img", f"x\n{line(Denoising_strength=0.6, Mask_blur=4)}", DONE, unmapped=("Denoising strength", "Mask blur")),
    Sample("Civitai", "x\nNegative prompt: y\nSteps: 25, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 832x1216, "
           'Clip skip: 2, Created Date: 2025-01-02T03:04:05.678Z, Civitai resources: [{"type":"checkpoint","modelVersionId":'
           '12,"modelName":"Real, v5","modelVersionName":"a"},{"type":"lora","weight":0.6,"modelVersionId":34}], '
           'Civitai metadata: {"remixId":5}', {
        "steps": 25, "seed": 3, "model": "Real, v5"}, unmapped=("Civitai resources: lora 34",), guessed=("model",)),
    Sample("Civitai's hashes", f'x\n{line()}, Hashes: {{"model":"0123456789","lora:skin":"ab"}}, Model: realvis5', {
        "model": "realvis5"}, guessed=("model",)),
)  # fmt: skip
