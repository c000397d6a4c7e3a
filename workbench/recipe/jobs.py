"""One stage of one picture as a job: named by the content key of its result, and waiting for the results it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.files import hash_json
from workbench.settings import Settings, stages

from .keys import inputs
from .stages.stage import DenoisingStage, PictureStage, Stage


@dataclass(frozen=True)
class Job:
    """A stage to be run for one picture.

    Attributes:
        key: content key of its result: equal keys are one job.
        stage: the stage's name.
        settings: of any picture that needs the job; they are equal in what acts here and before.
        taken: keys of the results that it takes, the picture to go on with last.
    """

    key: str
    stage: str
    settings: Settings
    taken: tuple[str, ...]

    @property
    def kind(self) -> Stage:
        return stages()[self.stage]

    @property
    def call(self) -> str:
        """Equal for jobs that run in one call, like those of one picture at several CodeFormer weights; `key` where a stage
        shares nothing of the kind."""
        stage = self.kind
        if not isinstance(stage, PictureStage) or not stage.shares:
            return self.key
        acting = {n: v for n, v in stage.effective_settings(self.settings).items() if n not in stage.shares}
        networks = [getattr(self.settings, name) for name in stage.networks]
        return hash_json({"stage": self.stage, "settings": acting, "input": self.taken, "networks": networks})

    @property
    def first_step(self) -> str | None:
        """See `DenoisingStage.first_step_key`; None for a stage that does not denoise."""
        stage = self.kind
        return stage.first_step_key(self.settings, self.taken) if isinstance(stage, DenoisingStage) else None


def jobs_of(s: Settings, keys: Mapping[str, str]) -> list[Job]:
    """The jobs of one picture, in the order in which its stages run. `keys`: as `stage_keys` gives them."""
    return [Job(keys[name], name, s, tuple(keys[t] for t in taken)) for name, taken in inputs(s).items()]
