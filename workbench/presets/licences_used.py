"""Which licences a picture comes under: those of the weights that its settings use."""

from __future__ import annotations

from workbench.models import NOT_SERVED, UNKNOWN
from workbench.settings import Settings, stages

from .preset import Preset


def licences(settings: Settings) -> list[str]:
    """The licences of the weights these settings use, in words."""
    used = [licence for name in settings.stages for licence in stages()[name].licences(settings)]
    return list(dict.fromkeys(used))


def preset_licences(preset: Preset) -> list[str]:
    """The licences that a preset's file names, and what its models say of theirs on this machine now.

    A file that was written by hand, or before the model was there, may name none.
    """
    named = {text.partition(":")[0] for text in preset.licences}
    now = [text for text in licences(preset.settings) if not (UNKNOWN in text and text.partition(":")[0] in named)]
    return list(dict.fromkeys([*preset.licences, *now]))


def forbids_serving(texts: list[str]) -> list[str]:
    """Of licences in words, those that forbid putting the model behind a service."""
    return [text for text in texts if NOT_SERVED in text]
