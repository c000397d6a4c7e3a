"""What every format of another tool has, and what reading and writing it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from workbench.settings import Settings


@dataclass(frozen=True)
class Exported:
    """Settings as another tool takes them.

    Attributes:
        text: of the file.
        unmapped: {one of our settings that acts: why the format cannot say it}.
        notes: what is said otherwise there, in sentences: that its seed gives another picture, say.
    """

    text: str
    unmapped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """Settings that were read from what another tool has written.

    Attributes:
        tool: whose words they were, for people: "A1111".
        settings: the whole of them; what the text does not say is as that tool takes it, else the default.
        read: {one of our settings: the words it was read from, "Steps: 30"}.
        guessed: {one of our settings: what was guessed, and why, in a sentence}.
        unmapped: {a name of the tool's with its value, "Token merging ratio: 0.5": why it has no counterpart}.
        notes: what else there is to know, in sentences: that the same seed gives another picture, say.
    """

    tool: str
    settings: Settings
    read: Mapping[str, str] = field(default_factory=dict)
    guessed: Mapping[str, str] = field(default_factory=dict)
    unmapped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class ExchangeFormat(ABC):
    """A format that another tool reads, writes, or both.

    Attributes:
        name: on the command line: "a1111".
        title: for people: "A1111 infotext".
        suffix: of a file of it: ".txt".
        exports, imports: which of the two it does.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    suffix: ClassVar[str]
    exports: ClassVar[bool] = True
    imports: ClassVar[bool] = True

    def write(self, s: Settings, name: str = "workbench") -> Exported:
        """The settings in the tool's words; `name`: of the preset, where the format has a place for one."""
        raise NotImplementedError

    def find(self, texts: Mapping[str, str]) -> str | None:
        """The text of this format among those of a picture, {name of its chunk: text}; None where there is none."""
        return None

    def recognises(self, text: str) -> bool:
        """Whether a text looks like one of this format, whole or not."""
        return False

    @abstractmethod
    def read(self, text: str) -> Imported:
        """What a text says. Raises `NotUnderstood` where it is none of this format, or says what cannot be made."""
