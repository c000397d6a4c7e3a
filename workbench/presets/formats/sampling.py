"""Samplers and schedules of A1111, Forge and their older versions, and the nearest of ours."""

from __future__ import annotations

import re
from typing import NamedTuple

from workbench.models import AUTOMATIC, SAMPLERS, SCHEDULE_ALIASES
from workbench.settings import knobs

from .samplers import COMFY_SAMPLERS, SCHEDULERS

NEAREST = {
    "heun": "DPM++ 2M", "heunpp2": "DPM++ 2M", "lms": "DPM++ 2M", "dpm2": "DPM++ 2M", "dpm fast": "DPM++ 2M",
    "dpm adaptive": "DPM++ 2M", "ipndm": "DPM++ 2M", "ipndm_v": "DPM++ 2M", "deis": "DPM++ 2M", "res multistep": "DPM++ 2M",
    "dpm++ 2m turbo": "DPM++ 2M", "dpm++ 2m cfg++": "DPM++ 2M", "dpm2 a": "Euler a", "dpm++ 2s a": "Euler a",
    "dpm++ 2s a cfg++": "Euler a", "euler a cfg++": "Euler a", "euler ancestral": "Euler a", "ddpm": "Euler a",
    "euler a turbo": "Euler a", "euler cfg++": "Euler", "dpm++ 3m sde": "DPM++ 2M SDE", "dpm++ 2m sde heun": "DPM++ 2M SDE",
    "restart": "DPM++ SDE", "plms": "DDIM", "ddim cfg++": "DDIM", "unipc bh2": "UniPC",
}  # fmt: skip
"""{A sampler of theirs that we have not, in lower case: what is nearest to it}."""
SCHEDULES = {
    "uniform": "Normal", "simple": "SGM Uniform", "sgmuniform": "SGM Uniform", "polyexponential": "Exponential",
    "kl optimal": "Karras", "ddim": "Normal", "beta57": "Beta", "turbo": "SGM Uniform",
    "align your steps gits": "Align Your Steps", "align your steps 11": "Align Your Steps",
    "align your steps 32": "Align Your Steps",
}  # fmt: skip
"""The same of schedules."""
SAME = ("sgmuniform",)  # another spelling only
SUFFIXES = re.compile(
    r"\s+(karras|exponential|polyexponential|sgm ?uniform|uniform|simple|normal|beta|align your steps)$", re.IGNORECASE
)


class SamplerRead(NamedTuple):
    """A sampler with its schedule, as our settings have them.

    Attributes:
        guess: what of it is only near, in a sentence, or "".
        said: the sampler and the schedule as the tool has them; "" where it told no schedule apart.
    """

    sampler: str
    schedule: str
    guess: str = ""
    said: tuple[str, str] = ("", "")

    @property
    def acting(self) -> tuple[str, str]:
        """(the plain sampler, its schedule), whichever of the two says it."""
        name, karras, _ = self.sampler.partition(" Karras")
        return (name, "Karras") if karras else (name, self.schedule)


def read_sampler(name: str, schedule: str = "") -> SamplerRead:
    """Our sampler and schedule of theirs; `schedule`: "" where it is told with the name ("DPM++ 2M Karras") or not at all."""
    said, plain = (name, schedule), " ".join(name.split())
    if found := SUFFIXES.search(plain):
        plain, schedule = plain[: found.start()], found[1]
    sampler, about = _sampler(plain)
    ours, doubt = _schedule(schedule or "automatic", sampler)
    if ours not in ("auto", *SAMPLERS[sampler].schedules):
        doubt = f"{sampler} cannot take the schedule {ours} here; the model's own is taken."
        ours = "auto"
    both = f"{sampler} Karras"
    if ours == "Karras" and both in knobs()["sampler"].choices:
        sampler, ours = both, "auto"
    return SamplerRead(sampler, ours, " ".join(filter(None, (about, doubt))), said)


def sampler_beside(base: SamplerRead, name: str | None, schedule: str | None) -> SamplerRead | None:
    """The sampler of a later pass, as `read_sampler`; None where it is the base's. What is not said is the base's."""
    own, its = (value if value and not value.lower().startswith("use same") else "" for value in (name, schedule))
    found = read_sampler(own or base.said[0], its or base.said[1])
    return None if found.acting == base.acting else found


def _sampler(name: str) -> tuple[str, str]:
    word = name.lower()
    for ours in SAMPLERS:
        if ours.lower() == word:
            return ours, ""
    if found := COMFY_SAMPLERS.get(word):  # Civitai has pictures of ComfyUI, too
        return found, ""
    nearest = NEAREST.get(word, "DPM++ 2M")
    return nearest, f"there is no sampler {name or '(none)'} here; {nearest} is the nearest."


def _schedule(name: str, sampler: str) -> tuple[str, str]:
    word = " ".join(name.lower().replace("_", " ").split())
    if word == "automatic":
        return AUTOMATIC.get(sampler, "auto"), ""
    ours = {known.replace("_", " "): each for known, each in SCHEDULERS.items()} | SCHEDULE_ALIASES
    if found := ours.get(word) or next((each for each in knobs()["schedule"].choices if each.lower() == word), None):
        return found, ""
    nearest = SCHEDULES.get(word, "auto")
    said = "the model's own" if nearest == "auto" else nearest
    return nearest, "" if word in SAME else f"there is no schedule {name} here; {said} is the nearest."
