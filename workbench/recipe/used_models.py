"""Which weights settings use, by digest: so that a preset can be known to meet the ones it was made with."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import WorkbenchError
from workbench.settings import Settings, short_name, stages


class UsedModel(BaseModel):
    """A file or folder of weights, as another machine can know it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: str = Field(description="What it is called, without its folder.")
    digest: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="sha256 of the file; of a folder, of the names and sha256 of its files."
    )


def used_models(s: Settings) -> dict[str, UsedModel]:
    """{component, as "model" or "lora:detail": the weights that these settings use of it}, of those that are on this machine.

    Weights that come inside Python packages are not among them: they are known by the versions of these. Reads files that
    were not hashed yet as a whole.
    """
    found: dict[str, UsedModel] = {}
    for stage in (stages()[name] for name in s.stages):
        for component, (name, digest_of) in stage.models(s).items():
            try:
                digest = digest_of()
            except WorkbenchError:  # it is not here, or damaged, which is said where a picture is to be made
                continue
            if digest:
                found[component] = UsedModel(name=short_name(name), digest=digest)
    return found
