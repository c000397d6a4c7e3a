"""Which presets are served, as their files are now: a promotion or a roll-back is picked up at the next request."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from workbench.errors import BadRequest, NotServed, WorkbenchError
from workbench.files import hash_json, home
from workbench.presets import (
    SHIPPED,
    Preset,
    check_preset_name,
    forbids_serving,
    licences,
    load_preset,
    names_behind,
    other_models,
    preset_licences,
    presets_folder,
    promise_withdrawn,
)
from workbench.settings import Settings, knobs, parse_weighted, short_name, stages

log = logging.getLogger("workbench.serve")
PATH = re.compile(r"(?:file://|(?<![\w/]))(?:~|\.{1,2})?(?:/[^\s/'\":,;()]+)+|\b[A-Za-z]:\\[^\s'\",;]+")


@dataclass(frozen=True)
class Served:
    """A preset in force.

    Attributes:
        licences: in words.
        withdrawn: why its pictures are not exactly those it was promoted for; "" where they are.
        others: a sentence for each of its weights that is another one here than when it was written.
        digest: of its settings.
    """

    preset: Preset
    licences: list[str]
    withdrawn: str
    digest: str
    others: list[str]


class InForce:
    """The presets that are served, by name; the first is the one of requests that name none."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        accept_licences: bool = False,
        accept_other_models: bool = False,
        given: Sequence[Preset] = (),
    ) -> None:
        """`names`: of presets, or their files; `given`: presets that have no file. Raises `NotServed`, as `load_preset`."""
        self._accept, self._accept_others = accept_licences, accept_other_models
        self._served: dict[str, Served] = {}
        self._seen: dict[str, object] = {}
        self._source: dict[str, str] = {}
        self._renewing = threading.Lock()
        for preset in given:
            self._served[preset.name] = self._look(preset)
        for source in names:
            stamp = _stamp(source)  # before it is read: what is written in between is seen the next time
            preset = load_preset(source)
            name = check_preset_name(preset.via[0] if preset.via else preset.name)
            self._source[name], self._seen[name] = source, stamp
            self._served[name] = self._look(replace(preset, name=name))

    @property
    def names(self) -> list[str]:
        return list(self._served)

    def current(self, name: str = "") -> Served:
        """The preset of that name as it was last looked at; at once. Raises `BadRequest`: no such preset is served."""
        name = name or self.names[0]
        if name not in self._served:
            raise BadRequest(f"the preset '{name[:40]}' is not served; there are {', '.join(self.names)}.")
        return self._served[name]

    def get(self, name: str = "") -> Served:
        """As `current`, of its file as it is now; one that is damaged or forbids serving leaves the old one in force.

        Takes as long as the weights of a new one are to read: not for the event loop.
        """
        name = self.current(name).preset.name
        if name in self._source:
            with self._renewing:
                self._renew(name)
        return self._served[name]

    def _renew(self, name: str) -> None:
        stamp = _stamp(self._source[name])
        if stamp == self._seen[name]:
            return
        self._seen[name] = stamp  # what is wrong with it is said once
        try:
            self._served[name] = self._look(replace(load_preset(self._source[name]), name=name))
            log.warning("preset %s is in force as it was changed: %s", name, self._served[name].digest[:12])
        except WorkbenchError as error:
            log.error("preset %s stays as it was: %s", name, error)

    def check_licences(self, s: Settings) -> None:
        """Raise `NotServed` where the weights that a request names must not be served."""
        if not self._accept and (forbidden := forbids_serving(licences(s))):
            raise NotServed(f"that is not served: {forbidden[0]}.")

    def _look(self, preset: Preset) -> Served:
        found = preset_licences(preset)
        if (forbidden := forbids_serving(found)) and not self._accept:
            raise NotServed(
                f"preset {preset.name} is not served: {forbidden[0]}. With leave of whoever gives it, start the server with "
                "--accept-licences."
            )
        if (others := other_models(preset)) and not self._accept_others:
            raise NotServed(
                f"preset {preset.name} is not served: {others[0].rstrip('.')}, or start the server with "
                "--accept-other-models."
            )
        return Served(preset, found, promise_withdrawn(preset), preset.digest, others)


def _stamp(source: str) -> object:
    """Equal for as long as no file that a preset is read from, nor an alias that leads to it, is replaced or written, nor
    hidden by one of yours."""
    return [_stat(each) for each in names_behind(source)]


def _stat(source: str) -> object:
    named = "/" in source or source.endswith(".json")
    places = (
        [Path(source).expanduser()] if named else [folder / f"{source}.json" for folder in (presets_folder(), SHIPPED)]
    )
    for path in places:
        try:
            stat = path.stat()
        except OSError:
            continue
        return str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns
    return None


def public_settings(s: Settings) -> dict[str, Any]:
    """Settings as answers have them: files by their names, never by where they lie."""
    return {n: _named(n, v) if isinstance(v, str) and "prompt" not in n else v for n, v in s.model_dump().items()}


def _named(name: str, text: str) -> str:
    if knobs()[name].items:
        return (
            ", ".join(f"{short_name(item.file)}:{item.weight:g}" for item in parse_weighted(name, text))
            if text
            else text
        )
    return short_name(text)


def model_digest(s: Settings) -> str:
    """Hash of the weights that the first stage runs with. Raises `MissingWeights`, `CorruptWeights`."""
    return hash_json(stages()[s.stages[0]].weights(s))


def known_digest(s: Settings) -> str | None:
    """As `model_digest`; None where the weights are not here, or damaged."""
    try:
        return model_digest(s)
    except WorkbenchError:
        return None


def without_paths(value: object) -> Any:
    """JSON values in which a file of this machine is its name alone."""
    if isinstance(value, str):
        return public_words(value)
    if isinstance(value, Mapping):
        return {public_words(str(name)): without_paths(each) for name, each in value.items()}
    return [without_paths(each) for each in value] if isinstance(value, list | tuple) else value


def public_words(text: str) -> str:
    """A text in which a path is the name of its file alone."""
    for place in (str(home()), os.path.expanduser("~")):  # also with blanks in them
        text = text.replace(f"{place}/", "/./") if len(place) > 1 else text
    return PATH.sub(lambda found: PurePath(found[0].replace("\\", "/")).name, text)
