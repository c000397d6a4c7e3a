"""Pictures on their way through the sampler: a `Row` each, and the `Denoising` of a job, which has one row or several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.errors import NotFinite

if TYPE_CHECKING:
    import torch

    from workbench.models import LoraFile, PeakMemory, Sampling
    from workbench.store import Artefact

    from .text_encoding import Text

Answer = tuple["torch.Tensor | None", "torch.Tensor"]
"""The UNet's answer for one row, (1, 4, h, w) each: to the negative prompt (None without guidance), and to the prompt."""


@dataclass
class Row:
    """One picture in the making.

    Attributes:
        stage: the name of the stage that it belongs to.
        part: the part of the model whose UNet takes it, "base" or "refiner"; "base" where that is what refines.
        cfg: guidance scale; 1 or less evaluates the conditional half only.
        latents: (1, 4, height / 8, width / 8).
        timesteps: (steps,), all that the row takes from its start to its end.
        scheduler, generator: of this row alone.
        step_arguments: what this kind of scheduler wants at every step beside the latents.
        time_ids, negative_time_ids: (1, 6), in the refiner (1, 5): sizes, crop and, there, the aesthetic score.
        loras: that act in its UNet.
        done: steps taken; `evaluated` of them by a UNet call of its own, in `seconds`.
        memory: the most bytes of the GPU that one of its calls took; see `PeakMemory`.
        finite: of the latents after each step, whether all of them are numbers: (). Looked at only when the row is finished,
            since a look waits for the GPU.
    """

    stage: str
    part: str
    cfg: float
    latents: torch.Tensor
    timesteps: torch.Tensor
    scheduler: Sampling
    generator: torch.Generator
    step_arguments: dict[str, object]
    text: Text
    time_ids: torch.Tensor
    negative_time_ids: torch.Tensor
    loras: tuple[LoraFile, ...] = ()
    done: int = 0
    evaluated: int = 0
    seconds: float = 0.0
    memory: int | None = None
    finite: list[torch.Tensor] = field(default_factory=list)

    @property
    def guided(self) -> bool:
        return self.cfg > 1

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    @property
    def finished(self) -> bool:
        return self.done >= self.steps

    @property
    def shape(self) -> tuple[str, tuple[int, ...], bool, int, tuple[LoraFile, ...]]:
        """(part, shape of the latents, whether guided, tokens of the text, LoRAs): what rows must have in common to share a
        UNet call, whatever their stages."""
        return (self.part, tuple(self.latents.shape), self.guided, self.text.positive.shape[1], self.loras)

    def scaled(self) -> torch.Tensor:
        """The latents as the UNet takes them at this step."""
        return self.scheduler.scale_model_input(self.latents, self.timesteps[self.done])

    def guided_by(self, negative: torch.Tensor | None, positive: torch.Tensor) -> torch.Tensor:
        """What the UNet says to both prompts together, by the guidance scale: (1, 4, h, w)."""
        return positive if negative is None else negative + self.cfg * (positive - negative)

    def advance(self, negative: torch.Tensor | None, positive: torch.Tensor) -> None:
        """Take one sampler step with an `Answer`, (1, 4, h, w) each; `negative` is None without guidance."""
        self.latents = self.scheduler.step(
            self.guided_by(negative, positive),
            self.timesteps[self.done],
            self.latents,
            **self.step_arguments,
            return_dict=False,
        )[0]
        self.finite.append(self.latents.isfinite().all())
        self.done += 1

    def check(self) -> None:
        """Raise `NotFinite` where a step gave latents that are no numbers."""
        for step, fine in enumerate(self.finite, start=1):
            if not fine:
                raise NotFinite(
                    f"{self.stage}, step {step} of {self.steps}: the UNet gave numbers that are none or infinite (NaN, inf), "
                    "so there is no picture; use another model file, a lower CFG or another sampler."
                )

    def used(self, memory: PeakMemory) -> None:
        """Take note of what a call took."""
        if memory.bytes is not None:
            self.memory = max(self.memory or 0, memory.bytes)


@dataclass
class Denoising:
    """A job that is being denoised.

    Attributes:
        stage: the name of its stage.
        rows: one, or one for each of what the stage cuts out of a picture; none where nothing is to be denoised.
        finish: its result, made of what the rows were decoded into, in their order.
    """

    stage: str
    rows: list[Row]
    finish: Callable[[list[Artefact]], Artefact]

    @property
    def done(self) -> int:
        """Steps that its rows have taken together."""
        return sum(row.done for row in self.rows)

    @property
    def steps(self) -> int:
        """All that they take."""
        return sum(row.steps for row in self.rows)


def generator_at(state: bytes) -> torch.Generator:
    """A CPU generator that goes on from a state."""
    import torch

    generator = torch.Generator("cpu")
    generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
    return generator
