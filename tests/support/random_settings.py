"""Settings drawn at random, of all that may be set: for round trips through the formats of other tools."""

from __future__ import annotations

from random import Random

from workbench.errors import SettingsError
from workbench.settings import Knob, Settings, knobs

PROMPTS = (
    "a face", "photo of Ada, (window light:1.2), [blurry]", "two\nlines", 'she said: "no", twice', "ünïcode 日本 🙂",
    "a, b, c: d", "Steps: 3, Sampler: Euler, Seed: 4", "one BREAK two", r"a \(real\) face", "  spaces  ",
    "a face <lora:skin:0.4>", "{curly} brackets: [1, 2]", "C:\\pictures\\me", "it's, a; \"quote", "Size: 8x8",
    "((very)) [[un]]sharp",
)  # fmt: skip
NEGATIVES = ("", "blurry", "(cgi:1.3), bad: eyes", "two\nlines", '"quoted"', "x, y, z")
TEXTS = {
    "prompt": PROMPTS,
    "hires_prompt": ("", "", *PROMPTS),
    "detail_prompt": ("", "", *PROMPTS),
    "negative_prompt": NEGATIVES,
    "hires_negative_prompt": ("", *NEGATIVES),
    "detail_negative_prompt": ("", *NEGATIVES),
    "loras": ("", "", "detail:0.8", "detail:0.8, two:-1", "eyes:0.35, gone:0", "my lora v1.2:1"),
    "model": ("sdxl", "embedded", "realvis5", "folder/model.safetensors"),
    "refiner": ("auto", "base", "realvis5", "other"),
    "vae": ("", "", "fixed.safetensors"),
    "resampler": ("lanczos", "bicubic", "nearest", "realesrgan-x4plus", "4x-Sharp"),
    "upscaler": ("none", "none", "realesrgan-x4plus-anime-6B", "4x-Sharp"),
    "restorer": ("none", "codeformer", "codeformer", "mine"),
}
"""{setting: texts that it may be}."""


def random_settings(draw: Random, share: float = 0.5, **fixed: object) -> Settings:
    """Valid settings, each of which is with this probability not its default; `fixed`: those that are given."""
    while True:
        names = [name for name in knobs() if name not in fixed and draw.random() < share]
        try:
            return Settings(**{name: _value(draw, knobs()[name]) for name in names}, **fixed)
        except SettingsError:  # sampler and schedule do not go together, say
            continue


def _value(draw: Random, knob: Knob) -> object:
    if knob.name in TEXTS:
        return draw.choice(TEXTS[knob.name])
    if knob.choices:
        return draw.choice(knob.choices)
    if knob.kind == "bool":
        return draw.random() < 0.5
    low, high = knob.minimum or 0.0, knob.maximum if knob.maximum is not None else 10.0
    if knob.kind == "int":
        step = 8 if knob.name in ("width", "height", "detail_size") else 1
        number = draw.choice([draw.uniform(low, high), draw.uniform(low, min(high, 40 * step + low))])
        return max(int(low), int(number) // step * step)
    return min(high, max(low, round(draw.uniform(low, high), draw.choice([0, 1, 2, 2, 3, 16]))))
