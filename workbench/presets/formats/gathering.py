"""Settings gathered word by word from what another tool has written, with what each of them was read from."""

from __future__ import annotations

from workbench.errors import NotUnderstood, SettingsError
from workbench.settings import Settings, check_value, parse_value

from .exchange import Imported

NO_COUNTERPART = "it has no counterpart here"
GO_TOGETHER = (
    ("hires_sampler", "hires_schedule"), ("detail_sampler",), ("refine_steps", "strength"),
    ("detail_steps", "detail_strength"), ("sampler", "schedule"), ("loras",), ("steps",),
)  # fmt: skip
"""Settings that are left at their defaults, one group or all, where what was read cannot run together."""


class Gathering:
    """What has been read so far; of settings that nothing says, the `unsaid` values stand.

    Attributes:
        values: {setting: value} that are allowed by themselves.
        read, guessed, unmapped, notes: see `Imported`.
    """

    def __init__(self, unsaid: dict[str, object]) -> None:
        self.values: dict[str, object] = dict(unsaid)
        self.read: dict[str, str] = {}
        self.guessed: dict[str, str] = {}
        self.unmapped: dict[str, str] = {}
        self.notes: list[str] = []

    def take(self, name: str, value: object, words: str, guess: str = "") -> bool:
        """Set a setting to what `words` say, a text or a value; whether it is allowed. `guess`: why it is only likely."""
        try:
            given = parse_value(name, value) if isinstance(value, str) else value
            self.values[name] = check_value(name, given)
        except SettingsError as error:
            self.cannot(words, str(error))
            return False
        self.read[name] = words
        if guess:
            self.guessed[name] = guess
        return True

    def cannot(self, words: str, why: str = NO_COUNTERPART) -> None:
        self.unmapped[words] = why

    def finish(self, tool: str) -> Imported:
        """All of it, as settings that can run. Raises `NotUnderstood` where none can be made of it."""
        first = ""
        for left in ((), *GO_TOGETHER, tuple(name for names in GO_TOGETHER for name in names)):
            if left and not self.values.keys() & set(left):
                continue
            try:
                settings = Settings(**{name: value for name, value in self.values.items() if name not in left})
            except SettingsError as error:
                first = first or str(error)
                continue
            for name in left:
                self._give_up(name, first)
            return Imported(tool, settings, self.read, self.guessed, self.unmapped, tuple(self.notes))
        raise NotUnderstood(f"what {tool} has written cannot be made: {first}")

    def _give_up(self, name: str, why: str) -> None:
        self.guessed.pop(name, None)
        if words := self.read.pop(name, ""):
            self.unmapped[words] = f"{name} = {self.values[name]!r} does not go with the rest: {why}"
