"""Which licences a picture comes under: those of the weights that its settings use."""

from __future__ import annotations

from workbench.models import LICENCES
from workbench.settings import Settings


def licences(settings: Settings) -> list[str]:
    """The licences of the weights these settings use, in words."""
    used = [LICENCES.get(settings.model, f"{settings.model}: ask whoever published this model")]
    used += [LICENCES["codeformer"]] * (settings.restorer == "codeformer")
    return used + [LICENCES["realesrgan"]] * (settings.upscaler != "none")
