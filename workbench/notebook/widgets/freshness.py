"""Whether the pictures that are shown are of what the controls are set to."""

from __future__ import annotations

from workbench.errors import WorkbenchError
from workbench.recipe import keys_without_weights
from workbench.settings import Settings

from .telling import changed


class Freshness:
    """Remembers what each shown picture was made from, so that what is old can be called so.

    Attributes:
        settings: of the last stage that is shown; None before the first picture.
        what: whether that is a "preview" or "full".
    """

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}  # {stage: key of its picture}
        self.settings: Settings | None = None
        self.what = ""

    def painted(self, stage: str, settings: Settings, what: str) -> None:
        """The picture of `stage` is shown from now on; `settings`: those that were asked for, of a preview too."""
        self._keys[stage] = _keys(settings)[stage]
        if stage == settings.stages[-1]:
            self.settings, self.what = settings, what

    def shown_alone(self, stage: str, settings: Settings) -> None:
        """Only this finished picture is shown."""
        self._keys = {}
        self.painted(stage, settings, "full")

    def stale(self, now: Settings | None) -> list[str]:
        """The stages whose pictures are not those of `now`; None: of values that do not go together."""
        keys = _keys(now) if now else {}
        return [stage for stage, key in self._keys.items() if keys.get(stage) != key]

    def whole(self, now: Settings) -> bool:
        """Whether the finished picture of these settings is shown."""
        return self.what == "full" and self.settings is not None and now.stages[-1] not in self.stale(now)

    def ended(self, how: str, now: Settings) -> str:
        """What to say of a render that was "cancelled" or has "failed"."""
        if self.settings is None:
            return f"{how}; nothing is made yet"
        if now.stages[-1] in self._keys and now.stages[-1] not in self.stale(now):
            return f"{how}; showing the {self.what if self.what == 'preview' else 'full picture'}"
        asked, shown = changed(now, self.settings), changed(self.settings, now)
        return f"{how} at {asked}; showing {shown}"


def _keys(settings: Settings) -> dict[str, str]:
    """{stage: key}; of a file that is damaged, one for these settings alone."""
    try:
        return keys_without_weights(settings)
    except WorkbenchError:
        return dict.fromkeys(settings.stages, repr(settings))
