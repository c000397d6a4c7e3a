"""The formats there are, and how one is chosen for a text or a picture."""

from __future__ import annotations

import difflib

from workbench.errors import NoSettingsInPicture, NotUnderstood, UsageError
from workbench.files import CHUNK, picture_texts, settings_in
from workbench.settings import Settings

from .a1111 import A1111
from .comfy import Comfy
from .exchange import ExchangeFormat, Exported, Imported
from .invoke import Invoke
from .script import Script
from .styles import Styles
from .swarm import Swarm

_ALL: tuple[ExchangeFormat, ...] = (Swarm(), Invoke(), Comfy(), A1111(), Styles(), Script())
FORMATS: dict[str, ExchangeFormat] = {each.name: each for each in _ALL}
"""{name: format}, those that are told apart most surely first."""


def export_settings(s: Settings, tool: str, name: str = "workbench") -> Exported:
    """Settings in the words of `tool`, a name of `FORMATS`. Raises `UsageError` for another name."""
    return _format(tool, exports=True).write(s, name)


def read_text(text: str, tool: str | None = None) -> Imported:
    """Settings from a text that another tool has written; `tool`: a name of `FORMATS`, else it is found out.

    Raises `NotUnderstood`, and `UsageError` for another name.
    """
    if tool is not None:
        return _format(tool, exports=False).read(text)
    for each in FORMATS.values():
        if each.imports and each.recognises(text):
            return each.read(text)
    raise NotUnderstood(f"the text is in no format that is known here; there are {_names(exports=False)}.")


def read_picture(data: bytes) -> Imported:
    """Settings from the texts inside a picture's file (PNG, JPEG or WebP): our own chunk first, then other tools'.

    Raises `UnreadablePicture`, `NoSettingsInPicture`, `NotUnderstood`.
    """
    texts = picture_texts(data)
    if CHUNK in texts:
        return Imported("workbench", settings_in(texts[CHUNK]))
    for each in FORMATS.values():
        if each.imports and (text := each.find(texts)) is not None:
            return each.read(text)
    raise NoSettingsInPicture(
        "the picture carries no settings: it was saved without them, or by a tool whose format is not known here "
        f"(known: workbench, {_names(exports=False)})."
    )


def _format(name: str, *, exports: bool) -> ExchangeFormat:
    found = FORMATS.get(name)
    if found is None or not (found.exports if exports else found.imports):
        near = difflib.get_close_matches(name, FORMATS, n=1)
        what = "written" if exports else "read"
        hint = f"did you mean '{near[0]}'?" if near and near[0] != name else f"there are {_names(exports=exports)}."
        raise UsageError(f"'{name}' is no format that is {what} here; {hint}")
    return found


def _names(*, exports: bool) -> str:
    return ", ".join(name for name, each in FORMATS.items() if (each.exports if exports else each.imports))
