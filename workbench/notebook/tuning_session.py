"""What was tried in a tuning session: on disk, so that it is there again after a reload, a restarted kernel or a night.

`$WORKBENCH_HOME/tuning/<name>/` holds `state.json` (the settings one is at, pins, favourites and axes), `history.jsonl` (a
line for each picture that was made), `pictures/` (their JPEGs) and `sweep.toml` (the axes collected for a sweep). Loads no
torch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from workbench.errors import NoAxis, OddFile, SettingsError, TooManyPins, UsageError
from workbench.files import LineReader, append_line, fits, home, locked, read_typed, write_atomic, write_json, writing
from workbench.presets import NAME
from workbench.runs import plain
from workbench.settings import Settings, Value, knobs
from workbench.sweeps import toml_value

if TYPE_CHECKING:
    import pandas as pd

KEPT = 60  # variants in the filmstrip; older ones leave it and their pictures are removed
MOST_PINS = 4


class SessionState(TypedDict, total=False):
    """`state.json`: the settings that the session began with and is at now, numbers that are pinned or favourites, {setting:
    values} to sweep, and {model: seconds until its first step}."""

    format: int
    started_from: dict[str, Value] | None
    settings: dict[str, Value] | None
    pins: list[int]
    favourites: list[int]
    axes: dict[str, list[Value]]
    loading: dict[str, float]


class HistoryLine(TypedDict):
    """A line of `history.jsonl`: a `Variant` as JSON values."""

    number: int
    settings: dict[str, Value]
    status: str
    sharpness: float | None
    flags: list[str]
    face: list[float]


STATE: TypeAdapter[SessionState] = TypeAdapter(SessionState)
LINE: TypeAdapter[HistoryLine] = TypeAdapter(HistoryLine)


def history_line(line: object) -> bool:
    """Whether a line of `history.jsonl` is a `HistoryLine`."""
    return fits(line, LINE)


@dataclass(frozen=True)
class Variant:
    """One picture that was made in a session.

    Attributes:
        number: counts up from 1 in a session.
        settings: what made it; the same settings make it again.
        status, sharpness, flags: as `wb.score` gives them.
        face: x0, y0, x1, y1 of a square around the face as shares of the picture's sides; () without one.
        picture: JPEG of the finished picture.
    """

    number: int
    settings: Settings
    status: str
    sharpness: float | None
    flags: tuple[str, ...]
    face: tuple[float, ...]
    picture: Path


class TuningSession:
    """The variants, pins and axes of one tuning session, read from disk when it is made. Safe to use from threads.

    Several kernels may have it open: each sees the pictures, pins and axes of all, and takes nothing of theirs away. The
    settings are those of whoever saved last.

    Attributes:
        settings: where the session was left; None for a new one.
        pins: numbers of the pinned variants, at most four.
        favourites: numbers of the starred ones; they never leave the filmstrip by themselves.
        axes: {setting: values} collected for a sweep.
        loading: {model: seconds that it took to load}, the last time.
    """

    def __init__(self, name: str = "default") -> None:
        """Raises `UsageError` for a name that cannot be a folder's."""
        if not NAME.fullmatch(name):
            raise UsageError(f"'{name}' cannot be a session's name; use lower-case letters, digits, '.', '_' and '-'.")
        self.path = home() / "tuning" / name
        self._lock = threading.RLock()
        state = self._state()
        self.started_from: dict[str, Value] | None = state.get("started_from")
        self.settings = _settings(state.get("settings"))
        self.axes: dict[str, list[Value]] = state.get("axes", {})
        self.loading: dict[str, float] = state.get("loading", {})
        self._variants: dict[int, Variant] = {}
        self._last = 0
        self._history = LineReader(self.path / "history.jsonl", history_line)
        self._look()
        self.pins: list[int] = [n for n in state.get("pins", []) if n in self._variants]
        self.favourites: list[int] = [n for n in state.get("favourites", []) if n in self._variants]

    @contextmanager
    def _changing(self, *, place: bool = False) -> Iterator[None]:
        """Take in what other kernels have changed, and write what the block changes; others wait meanwhile.

        `place`: whether the settings one is at are changed, too; else those stay that were saved last, here or elsewhere.
        Nothing is written where the block raises.
        """
        with self._lock, locked(self.path / "lock"):
            self._look()
            state = self._state()
            self.pins, self.favourites = (
                [n for n in marked if n in self._variants]
                for marked in (state.get("pins", []), state.get("favourites", []))
            )
            self.axes = state.get("axes", {})
            self.loading = state.get("loading", {}) | self.loading
            yield
            if place or "settings" not in state:
                state["started_from"] = self.started_from
                state["settings"] = self.settings.model_dump() if self.settings else None
            marks: SessionState = {"pins": self.pins, "favourites": self.favourites, "axes": self.axes}
            write_json(self.path / "state.json", {**state, "format": 1, **marks, "loading": self.loading})

    def _look(self) -> None:
        """Take in what was added since the last look, by this kernel or another, and let go of what is gone."""
        for line in self._history.new():
            self._last = max(self._last, line["number"])
            if variant := self._read(line):
                self._variants[variant.number] = variant
        for variant in list(self._variants.values()):
            if not variant.picture.exists():
                del self._variants[variant.number]

    def variants(self) -> list[Variant]:
        """What the filmstrip shows, oldest first."""
        with self._lock:
            self._look()
            return [self._variants[n] for n in sorted(self._variants)]

    def table(self) -> pd.DataFrame:
        """One row per variant, newest first: number, sharpness, flags, and the settings in which they differ."""
        import pandas as pd

        variants = self.variants()[::-1]
        rows = [v.settings.model_dump() for v in variants]
        varied = [name for name in knobs() if len({row[name] for row in rows}) > 1]
        return pd.DataFrame(
            [
                {"sharpness": v.sharpness, "flags": ", ".join(v.flags), **{name: row[name] for name in varied}}
                for v, row in zip(variants, rows, strict=True)
            ],
            index=pd.Index([v.number for v in variants], name="picture"),
        )

    def variant(self, number: int) -> Variant:
        """The variant of that number. Raises `UsageError` where it has left the filmstrip."""
        with self._lock:
            if number not in self._variants:
                raise UsageError(
                    f"picture {number} is no longer in this session; the newest {KEPT}, pins and favourites are."
                )
            return self._variants[number]

    def begin(self, start: Settings) -> Settings:
        """The settings to open with: if the session was begun with `start` before, those it was left at, else `start`."""
        with self._lock:
            if self.settings is None or self.started_from != start.model_dump():
                self.started_from, self.settings = start.model_dump(), start
            return self.settings

    def add(
        self,
        settings: Settings,
        jpeg: bytes,
        *,
        status: str,
        sharpness: float | None,
        flags: tuple[str, ...] = (),
        face: tuple[float, ...] = (),
    ) -> Variant:
        """Put a picture into the filmstrip and return it as a `Variant`; where there is one of equal settings, it is that
        one, which stays in its place and shows the new picture.

        `jpeg`: its bytes; `status`, `sharpness`, `flags` and `face` as in `Variant`.
        """
        with self._changing():
            same = [n for n, other in self._variants.items() if other.settings == settings]
            number, picture = (same[-1], self._variants[same[-1]].picture) if same else self._next_number()
            variant = Variant(number, settings, status, sharpness, flags, face, picture)
            if same and self._variants[number] == variant and picture.read_bytes() == jpeg:
                return variant
            write_atomic(picture, jpeg)
            self._put(variant)
            kept = {*self.pins, *self.favourites}
            leaving = [n for n in sorted(self._variants) if n not in kept]
            for n in leaving[: max(0, len(self._variants) - KEPT)]:
                self._variants.pop(n).picture.unlink(missing_ok=True)
            return variant

    def remove(self, number: int) -> bytes:
        """Take a picture out of the filmstrip for good; return its JPEG, which `restore` takes. Raises `UsageError`."""
        with self._changing():
            picture = self.variant(number).picture
            jpeg = picture.read_bytes()
            picture.unlink()
            del self._variants[number]
            self.pins = [n for n in self.pins if n != number]
            self.favourites = [n for n in self.favourites if n != number]
            return jpeg

    def restore(self, variant: Variant, jpeg: bytes) -> None:
        """Put a picture that was removed back in its place."""
        with self._changing():
            write_atomic(variant.picture, jpeg)
            self._put(variant)  # a line anew: other kernels have let go of it, and would drop its pin

    def _put(self, variant: Variant) -> None:
        """Write a variant, whose picture is there, into the history."""
        line = {k: v for k, v in asdict(variant).items() if k not in ("settings", "picture")}
        append_line(self.path / "history.jsonl", {**line, "settings": variant.settings.model_dump()})
        self._variants[variant.number] = variant

    def star(self, number: int) -> None:
        """Make a picture a favourite, or no longer one. Raises `UsageError` for one that has left the filmstrip."""
        with self._changing():
            self.variant(number)
            others = [n for n in self.favourites if n != number]
            self.favourites = others if number in self.favourites else [*others, number]

    def _next_number(self) -> tuple[int, Path]:
        """(a number that no kernel has taken, its picture's path, where there is an empty file now)"""
        while True:
            self._last += 1
            picture = self.path / "pictures" / f"{self._last:05d}.jpg"
            with writing(picture):
                picture.parent.mkdir(parents=True, exist_ok=True)
                try:
                    picture.touch(exist_ok=False)
                except FileExistsError:
                    continue
            return self._last, picture

    def pin(self, number: int) -> None:
        """Pin a picture. Raises `TooManyPins`, and `UsageError` for one that has left the filmstrip."""
        with self._changing():
            self.variant(number)
            if number in self.pins:
                return
            if len(self.pins) >= MOST_PINS:
                raise TooManyPins(f"{MOST_PINS} pictures are pinned already; take one out first.")
            self.pins.append(number)

    def unpin(self, number: int) -> None:
        with self._changing():
            self.pins = [n for n in self.pins if n != number]

    def save(self, settings: Settings | None = None) -> None:
        """Keep these settings (as before, if None) as those one is at."""
        with self._changing(place=True):
            self.settings = settings or self.settings

    # --- towards a sweep -----------------------------------------------------------------------------------------

    def add_axis(self, name: str, settings: Settings) -> list[Value]:
        """Make a setting an axis of the sweep that is being collected; return the axis' values.

        They are the values that the setting has had in this session; where it had only one, that and one step to either
        side. Raises `NoAxis` where there is no second value.
        """
        knob = knobs().get(name)
        if knob is None or name == "seed":
            raise NoAxis(f"{name} is no axis of a sweep; seeds are counted in the spec itself (seeds = 4).")
        now = getattr(settings, name)
        values = {now, *(getattr(v.settings, name) for v in self.variants())}
        if len(values) < 2 and knob.step and knob.minimum is not None and knob.maximum is not None:
            both = (round(now + sign * knob.step, 10) for sign in (-1, 1))
            values |= {v if knob.kind == "float" else int(v) for v in both if knob.minimum < v <= knob.maximum}
        if len(values) < 2:
            raise NoAxis(f"{name} has had one value only ({plain(now)}); try another, then add it.")
        with self._changing():
            self.axes[name] = sorted(values)
            return self.axes[name]

    def clear_axes(self) -> None:
        with self._changing():
            self.axes = {}
            (self.path / "sweep.toml").unlink(missing_ok=True)

    def write_spec(self, preset: str, base: Settings, settings: Settings, seeds: int = 3) -> Path:
        """Write `sweep.toml`, a spec with the collected axes, and return its path.

        Where `settings` differ from `base`, which are those of `preset`, and no axis varies it, the spec fixes the value.
        """
        fixed = {n: value for n, (value, _) in settings.diff(base).items() if n not in self.axes and n != "prompt"}
        lines = [
            f"# collected in the tuner on {datetime.now():%Y-%m-%d %H:%M}",
            f"preset = {toml_value(preset)}",
            *([] if "prompt" in self.axes else [f"prompts = [{toml_value(settings.prompt)}]"]),
            f"seeds = {seeds}",
            "",
            "[axes]",
            *(f"{name} = {toml_value(values)}" for name, values in self.axes.items()),
            "",
            "[fixed]",
            *(f"{name} = {toml_value(value)}" for name, value in fixed.items()),
        ]
        path = self.path / "sweep.toml"
        write_atomic(path, ("\n".join(lines) + "\n").encode())
        return path

    def _state(self) -> SessionState:
        """What was written last; {} for a new session, and where it cannot be read: the pictures are still there."""
        try:
            state = read_typed(self.path / "state.json", STATE)
        except (FileNotFoundError, OddFile):
            return {}
        return state if state.get("format") == 1 else {}

    def _read(self, line: HistoryLine) -> Variant | None:
        """A line of the history; None where its picture is gone, or its settings are no longer allowed."""
        settings = _settings(line["settings"])
        picture = self.path / "pictures" / f"{line['number']:05d}.jpg"
        if settings is None or not picture.exists():
            return None
        flags, face = tuple(line["flags"]), tuple(line["face"])
        return Variant(line["number"], settings, line["status"], line["sharpness"], flags, face, picture)


def _settings(values: Mapping[str, Any] | None) -> Settings | None:
    """Settings as they were stored; None where a newer workbench no longer allows them."""
    try:
        return Settings.written(values) if values else None
    except SettingsError:
        return None
