"""The fields of a text, taken one by one, by names in whatever case; what is left at the end was not understood."""

from __future__ import annotations

from collections.abc import Mapping

from .gathering import Gathering
from .infotext import SIZE


class Fields:
    """The fields that nobody has taken yet."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._left = {name.lower(): (name, value) for name, value in fields.items()}
        self._all = dict(self._left)

    def peek(self, name: str) -> str:
        """The value of a field, which stays; "" where there is none."""
        return self._left.get(name.lower(), ("", ""))[1]

    def take(self, name: str) -> str | None:
        """The value of a field, which is then taken; None where there is none."""
        return self._left.pop(name.lower(), ("", None))[1]

    def put(self, name: str, value: str) -> None:
        """Add a field that the text says in other words."""
        self._left[name.lower()] = self._all[name.lower()] = (name, value)

    def into(self, gathering: Gathering, name: str, setting: str) -> str | None:
        """Take a field as the value of a setting; the value where it is allowed."""
        value = self.take(name)
        return value if value is not None and gathering.take(setting, value, f"{name}: {value}") else None

    def size(self, name: str) -> tuple[int, int] | None:
        """The width and height of a field such as "832x1216"; None where it is none, and then it stays."""
        found = SIZE.fullmatch(self.peek(name))
        if not found or len(found[0]) > 20:
            return None
        self.take(name)
        return int(found[1]), int(found[2])

    def words(self, name: str) -> str:
        """A field as it was written, taken or not."""
        return ": ".join(self._all.get(name.lower(), (name, "")))

    def left(self) -> list[tuple[str, str]]:
        """(name, value) of what nobody has taken."""
        return list(self._left.values())
