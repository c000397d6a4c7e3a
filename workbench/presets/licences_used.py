"""Which licences a picture comes under: those of the weights that its settings use."""

from __future__ import annotations

from workbench.settings import Settings, stages


def licences(settings: Settings) -> list[str]:
    """The licences of the weights these settings use, in words."""
    used = [licence for name in settings.stages for licence in stages()[name].licences(settings)]
    return list(dict.fromkeys(used))
