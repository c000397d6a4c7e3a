"""Samplers and schedules as ComfyUI, SwarmUI and InvokeAI name them, and denoising as they count it."""

from __future__ import annotations

from workbench.recipe import DenoisingStage, stage_named
from workbench.settings import Settings

from .gathering import Gathering
from .json_values import shown
from .samplers import COMFY_SAMPLERS, COMFY_SCHEDULERS, INVOKE_SAMPLERS, other_name
from .sampling import SamplerRead, read_sampler

SPELLINGS = (
    ("dpmpp", "dpm++"), ("_", " "), ("dpm 2 ancestral", "dpm2 a"), ("dpm 2", "dpm2"), ("2s ancestral", "2s a"), (" gpu", ""),
    (" cfg pp", " cfg++"), ("uni pc bh2", "unipc bh2"), ("uni pc", "unipc"),
)  # fmt: skip
"""(in ComfyUI's names of samplers, in A1111's)."""
INVOKE_SPELLINGS = (("kdpm 2", "dpm2"), ("dpm++ 2s", "dpm++ 2s a"), ("dpm++ 3m", "dpm++ 3m sde"), ("pndm", "plms"))


def denoising(s: Settings, stage: str) -> DenoisingStage:
    return stage_named(stage, DenoisingStage)


def comfy_names(s: Settings, stage: str) -> tuple[str, str]:
    """(sampler, schedule) of a stage in ComfyUI's words; the nearest, where it has none."""
    sampler, schedule, *_ = denoising(s, stage).sampler_steps(s)
    return other_name(COMFY_SAMPLERS, sampler) or "lcm", other_name(COMFY_SCHEDULERS, schedule) or "normal"


def read_comfy_sampler(name: object, schedule: object) -> SamplerRead:
    """Our sampler and schedule of ComfyUI's names."""
    sampler = name.strip().lower() if isinstance(name, str) else ""
    spoken = schedule.strip().lower() if isinstance(schedule, str) else ""
    if sampler not in COMFY_SAMPLERS:
        sampler = _spelt(sampler, SPELLINGS)
    spoken = {"ddim_uniform": "ddim", "": "normal"}.get(spoken, spoken)
    found = read_sampler(COMFY_SAMPLERS.get(sampler, sampler) or "(none)", spoken)
    if isinstance(name, str) and name.strip().lower().endswith("_gpu"):
        about = f"{shown(name)} draws the noise of its steps on the graphics card; {found.sampler} on the processor."
        return found._replace(guess=f"{found.guess} {about}".strip())
    return found


def invoke_name(s: Settings) -> str:
    """InvokeAI's name of the base's sampler with its schedule."""
    sampler, schedule, *_ = denoising(s, "base").sampler_steps(s)
    return (other_name(INVOKE_SAMPLERS, sampler) or "euler") + ("_k" if schedule == "Karras" else "")


def read_invoke_sampler(name: object) -> SamplerRead:
    """Our sampler and schedule of one name of InvokeAI's."""
    said = name.strip().lower() if isinstance(name, str) else ""
    plain, karras = said.removesuffix("_k"), said.endswith("_k")
    if ours := INVOKE_SAMPLERS.get(plain):
        found = read_sampler(ours, "karras" if karras else "normal")
        return found if karras else found._replace(sampler=ours, schedule="auto", guess="")
    return read_sampler(_spelt(plain, (*SPELLINGS, *INVOKE_SPELLINGS)) or "(none)", "karras" if karras else "normal")


def _spelt(name: str, spellings: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in spellings:
        name = name.replace(theirs, ours)
    return " ".join(name.split())


def take_sampler(gathering: Gathering, found: SamplerRead, words: str) -> None:
    """Set the base's sampler and schedule."""
    gathering.take("sampler", found.sampler, words, found.guess)
    gathering.take("schedule", found.schedule, words, found.guess)


def take_hires_sampler(gathering: Gathering, found: SamplerRead, base: SamplerRead, words: str) -> None:
    """Set the hires fix's sampler and schedule, where they are others than the base's."""
    if found.acting != base.acting:
        gathering.take("hires_sampler", found.sampler, words, found.guess)
        gathering.take("hires_schedule", found.schedule, words, found.guess)


def denoise_of(run: int, whole: int) -> float:
    """The denoise at which int(run / denoise) is `whole`, so that the last `run` of as many steps run, in few digits."""
    for digits in (2, 3, 4, 6):
        found = round(run / whole, digits)
        for each in (found, found - 10**-digits):
            if 0 < each <= 1 and int(run / round(each, digits)) == whole:
                return round(each, digits)
    return run / whole
