"""A row that is being denoised, as the engine has it: of which task it is, and what the other rows of its job came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .graph import Task

if TYPE_CHECKING:
    from workbench.recipe import Denoising, Job, Row
    from workbench.store import Artefact


@dataclass(frozen=True)
class Denoised:
    """A row of a task that is being denoised.

    Attributes:
        number: of the row among those of its job.
        decoded: {number of a row: what it was decoded into}, of all rows of the job.
    """

    task: Task
    denoising: Denoising
    number: int
    decoded: dict[int, Artefact]

    @property
    def row(self) -> Row:
        return self.denoising.rows[self.number]

    @property
    def job(self) -> Job:
        return self.task.jobs[0]

    @property
    def place(self) -> tuple[str, int]:
        return (self.job.key, self.number)

    @property
    def first_step(self) -> str | None:
        """Equal for rows whose first step asks the UNet the same; None when a row has done that step."""
        if self.row.done or self.task.first_step is None:
            return None
        return f"{self.task.first_step} {self.number}" if self.number else self.task.first_step
