"""The prompts that a challenge is run on if nobody names others: one file a model that has its own, one for all others."""

from __future__ import annotations

import tomllib
from pathlib import Path

from workbench.settings import Settings

FOLDER = Path(__file__).parent
PORTRAITS = FOLDER / "portraits.toml"


def usual_prompts(settings: Settings) -> list[str]:
    """The portraits that are shipped for the model of these settings."""
    own = {path.stem: path for path in FOLDER.glob("*.toml")}  # a model may be a path, which no file here is named by
    found = tomllib.loads(own.get(settings.model, PORTRAITS).read_text(encoding="utf-8"))
    return [entry["prompt"] for entry in found["portrait"]]
