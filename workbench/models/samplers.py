"""The samplers and their schedules, by the names that people know from A1111.

A sampler is one of diffusers' schedulers. A schedule says at which noise levels it works. The oldest names say both
("DPM++ 2M Karras"), and mean the same as the sampler ("DPM++ 2M") with the schedule ("Karras").
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Sampler = Literal[
    "DPM++ 2M Karras", "DPM++ 2M", "DPM++ 2M SDE Karras", "DPM++ 2M SDE", "DPM++ SDE Karras", "DPM++ SDE", "Euler", "Euler a",
    "UniPC", "DDIM", "LCM", "TCD",
]  # fmt: skip
Schedule = Literal["auto", "Normal", "Karras", "Exponential", "Beta", "SGM Uniform", "Align Your Steps"]

ALIGN_YOUR_STEPS = "Align Your Steps"
SCHEDULE_ALIASES = {"automatic": "auto", "trailing": "SGM Uniform", "ays": ALIGN_YOUR_STEPS}
"""Other names of schedules, in lower case."""

SPACINGS: dict[str, dict[str, str | bool]] = {  # what a schedule changes in the scheduler's config
    "auto": {},
    "Normal": {"timestep_spacing": "linspace"},
    "Karras": {"use_karras_sigmas": True},  # Karras et al. 2022
    "Exponential": {"use_exponential_sigmas": True},
    "Beta": {"use_beta_sigmas": True},  # Lee et al. 2024
    "SGM Uniform": {"timestep_spacing": "trailing"},
    ALIGN_YOUR_STEPS: {},  # timesteps of its own: see `set_steps`
}
TIMESTEPS = 1000  # that SDXL was trained with
SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
BY_SIGMA = ("Normal", "Karras", "Exponential", "Beta", "SGM Uniform")


class SamplerKind(NamedTuple):
    """A sampler of diffusers.

    Attributes:
        scheduler: diffusers' class.
        changes: to the model's own scheduler config.
        schedules: that it can take beside "auto".
        evaluations: of the UNet a step.
        most: steps that its schedule can have.
        library: beside diffusers, whose code makes its pixels.
    """

    scheduler: str
    changes: dict[str, str | bool]
    schedules: tuple[str, ...]
    evaluations: int = 1
    most: int = 499
    library: str = ""


MULTISTEP, DISTILLED = "DPMSolverMultistepScheduler", 50  # steps that a distilled model's own schedule has
SAMPLERS: dict[str, SamplerKind] = {
    "DPM++ 2M": SamplerKind(MULTISTEP, {}, (*BY_SIGMA, ALIGN_YOUR_STEPS)),
    "DPM++ 2M SDE": SamplerKind(MULTISTEP, {"algorithm_type": "sde-dpmsolver++"}, (*BY_SIGMA, ALIGN_YOUR_STEPS)),
    "DPM++ SDE": SamplerKind("DPMSolverSDEScheduler", {}, BY_SIGMA, evaluations=2, library="torchsde"),
    "Euler": SamplerKind("EulerDiscreteScheduler", {}, (*BY_SIGMA, ALIGN_YOUR_STEPS)),
    "Euler a": SamplerKind("EulerAncestralDiscreteScheduler", {}, ("Normal", "SGM Uniform")),
    "UniPC": SamplerKind("UniPCMultistepScheduler", {}, BY_SIGMA),
    "DDIM": SamplerKind("DDIMScheduler", {}, ("Normal", "SGM Uniform")),
    "LCM": SamplerKind("LCMScheduler", {}, (), most=DISTILLED),
    "TCD": SamplerKind("TCDScheduler", {}, (), most=DISTILLED),
}

AUTOMATIC = {"DPM++ 2M": "Karras", "DPM++ SDE": "Karras", "DPM++ 2M SDE": "Exponential"}
"""The schedule that A1111 takes for a sampler when it is asked for none; of the others the model's own."""

AYS_MOST = 50  # at 60, two of the interpolated timesteps are one


def webui_schedule(sampler: str, schedule: str) -> str:
    """What A1111 calls a schedule of `SPACINGS`, of a sampler of `SAMPLERS`.

    Where it takes another than the model's own when it is asked for none, that is called by the nearest.
    """
    if schedule != "auto":
        return schedule
    return "Normal" if sampler in AUTOMATIC else "Automatic"


class SamplerSteps(NamedTuple):
    """How one pass samples.

    Attributes:
        sampler, schedule: of `SAMPLERS` and of `SPACINGS`, as they act.
        steps: of the whole schedule, the last `run` of which run.
    """

    sampler: str
    schedule: str
    steps: int
    run: int

    @property
    def library(self) -> str:
        """See `SamplerKind`."""
        return SAMPLERS[self.sampler].library

    @property
    def evaluations(self) -> int:
        """UNet evaluations: a sampler that evaluates twice a step needs only one for its last."""
        each = SAMPLERS[self.sampler].evaluations
        return each * self.run - (each - 1)


def sampler_steps(sampler: str, schedule: str, steps: int, run: int | None = None) -> SamplerSteps:
    """How a pass samples that runs the last `run` (or all) of `steps` steps.

    Raises `ValueError`, in a sentence, where sampler and schedule contradict each other or do not go together, and where the
    sampler cannot divide its schedule into so many steps.
    """
    name, says = _by_name(sampler)
    if schedule not in ("auto", says) and says != "auto":
        raise ValueError(
            f"sampler '{sampler}' says {says} and schedule says {schedule}; use sampler '{name}' with that schedule, or "
            "schedule = auto"
        )
    acting, kind = schedule if schedule != "auto" else says, SAMPLERS[name]
    if acting not in ("auto", *kind.schedules):
        others = ", ".join(("auto", *kind.schedules))
        able = ", ".join(other for other, each in SAMPLERS.items() if acting in each.schedules)
        raise ValueError(
            f"sampler '{name}' cannot take the schedule {acting}; it takes {others} ({acting} goes with {able})"
        )
    most = min(kind.most, AYS_MOST) if acting == ALIGN_YOUR_STEPS else kind.most
    if steps > most:
        which = f"sampler '{name}'" if acting == "auto" else f"sampler '{name}' with the schedule {acting}"
        raise ValueError(f"{which} divides its schedule into at most {most} steps, not {steps}; use fewer steps")
    if acting == "SGM Uniform" and not _divides(steps):
        raise ValueError(
            f"diffusers cannot divide the schedule SGM Uniform into {steps} steps: its arithmetic makes one too many, at a "
            f"timestep below 0; use {next(n for n in range(steps - 1, 0, -1) if _divides(n))}"
        )
    return SamplerSteps(name, acting, steps, steps if run is None else run)


def _divides(steps: int) -> bool:
    """Whether diffusers' arithmetic divides the "trailing" spacing into as many steps."""
    return math.ceil(TIMESTEPS / (TIMESTEPS / steps)) == steps


def _by_name(sampler: str) -> tuple[str, str]:
    """(the sampler, the schedule that its name says): ("DPM++ 2M", "Karras"), ("Euler", "auto")."""
    name, karras, _ = sampler.partition(" Karras")
    return name, "Karras" if karras else "auto"
