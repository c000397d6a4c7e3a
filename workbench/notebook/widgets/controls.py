"""A control for every setting, made from its `Knob`: range, step, unit, tooltip and reset; grouped by stage."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets
from traitlets import Bunch

from workbench.settings import DRAWN, Knob, Settings, Value, knobs, stages

from .fields import LABEL, Field, Picker, field_of, words_of
from .telling import unused_html

ABOVE = ("prompt", "negative_prompt", "seed")  # shown before the groups
OTHER = "other"
EARLIER = "prompts of this session"
MENU = 64  # letters of a prompt in the menu of those


class Controls:
    """Widgets for all settings. `on_change(name)` is called when a person changes one, `None` for many at once.

    Attributes:
        fields: {setting: its widget}.
        above, groups: boxes to be shown.
        together: {title: dropdown of values that settings are given together, like sizes}.
        tokens: what is said of the prompts; `earlier`: a menu of prompts.
        lock: seed lock; while it is on, `show` and dice leave the seed alone.
    """

    def __init__(
        self, settings: Settings, on_change: Callable[[str | None], None], *, reset_to: Settings | None = None
    ) -> None:
        self._on_change = on_change
        self._quiet = False
        self._start = (reset_to or settings).model_dump()
        self.fields: dict[str, Field] = {}
        self._resets: dict[str, widgets.Button] = {}
        self._named: list[tuple[widgets.Dropdown, Mapping[str, Mapping[str, Value]]]] = []
        self.together: dict[str, widgets.Dropdown] = {}
        self.lock = widgets.ToggleButton(
            value=False, icon="unlock", tooltip="Lock the seed: presets and thumbnails then leave it as it is",
            layout={"width": "38px"},
        )  # fmt: skip
        self.dice = widgets.Button(icon="random", tooltip="Draw another seed", layout={"width": "38px"})
        self.tokens = widgets.HTML("")
        self.earlier = widgets.Dropdown(
            options=[(EARLIER, "")], description="Earlier", tooltip="Take a prompt of this session again",
            style={"description_width": LABEL}, layout={"width": "auto", "margin": "0 0 6px"},
        )  # fmt: skip
        self.earlier.observe(self._earlier_chosen, "value")
        self._rows: dict[str, widgets.HBox] = {}
        self._notes = {group: widgets.HTML("") for group in ("above", *stages())}  # which settings do nothing, and why
        rows: dict[str, list[widgets.Widget]] = {group: [] for group in ("above", *stages())}
        for name, knob in knobs().items():
            rows[self._group(name)].append(self._row(knob, getattr(settings, name)))
        for stage in stages().values():
            rows[stage.name][:0] = [self._together(title, choices) for title, choices in stage.together.items()]
        rows["above"][2:2] = [self.tokens, self.earlier]  # below the two prompts
        for group, note in self._notes.items():
            rows[group].append(note)
        self.lock.observe(self._locked, "value")
        self.dice.on_click(self._rolled)
        self.above = widgets.VBox(rows.pop("above"))
        self.groups = widgets.VBox(
            [
                widgets.Accordion(
                    [widgets.VBox(rows[name])], titles=(stage.title,), selected_index=0 if stage.open else None
                )
                for name, stage in stages().items()
            ]
        )
        self._mark()

    def values(self) -> dict[str, Value]:
        """{setting: value of its widget}; together they may be refused by `Settings`."""
        return {name: field.value for name, field in self.fields.items()}

    def settings(self) -> Settings:
        """What the controls are set to. Raises `SettingsError` where the values do not go together."""
        return Settings(**self.values())

    def show(self, settings: Settings, *, as_start: bool = False) -> Settings:
        """Set all controls, as one change; return what they are set to: of a locked seed, that one.

        `as_start`: from now on, a reset goes back to these settings.
        """
        if self.lock.value:
            settings = settings.replace(seed=self.fields["seed"].value)
        if as_start:
            self._start = settings.model_dump()
        self._set(settings.model_dump())
        self._mark()
        self._on_change(None)
        return settings

    def _row(self, knob: Knob, value: Value) -> widgets.Widget:
        field = self.fields[knob.name] = field_of(knob, value)
        reset = self._resets[knob.name] = widgets.Button(icon="undo", layout={"width": "30px", "flex": "0 0 auto"})
        reset.add_class("wb-reset")
        reset.on_click(lambda _, name=knob.name: self._reset(name))
        field.observe(lambda change, name=knob.name: self._changed(name), "value")
        extra = [self.lock, self.dice] if knob.name == "seed" else []
        row = self._rows[knob.name] = widgets.HBox([field, *extra, reset], layout={"width": "100%"})
        row.add_class("wb-row")
        return row

    def _together(self, title: str, choices: Mapping[str, Mapping[str, Value]]) -> widgets.Widget:
        """A dropdown of values that settings are given together; it shows "other" where they have none of these."""
        field = widgets.Dropdown(
            options=[*choices, OTHER], value=OTHER, description=title, tooltip="Sets several at once",
            style={"description_width": LABEL}, layout={"width": "auto", "flex": "1 1 auto", "min_width": "0"},
        )  # fmt: skip
        self.together[title] = field

        def chosen(change: Bunch) -> None:
            values = choices.get(change["new"], {})
            if any(self.fields[name].value != value for name, value in values.items()):
                self._set(values)
                self._changed(next(iter(values)))

        field.observe(chosen, "value")
        self._named.append((field, choices))
        return widgets.HBox([field], layout={"width": "100%"})

    def _set(self, values: Mapping[str, Value]) -> None:
        """Set some controls, as one change that nobody is told of."""
        self._quiet = True
        try:
            for name, value in values.items():
                self.fields[name].value = value
        finally:
            self._quiet = False

    def _reset(self, name: str) -> None:
        self.fields[name].value = self._start[name]

    def offer(self, there: Mapping[str, Sequence[str]]) -> None:
        """Let files be picked. `there`: {kind: names}, see `on_this_machine`."""
        for name, knob in knobs().items():
            if isinstance(field := self.fields[name], Picker):
                more = [*there.get("refiner", ()), *there.get("model", ())] if knob.files == "refiner" else ()
                names = more or there.get(knob.files or knob.items, ())
                field.options = list(dict.fromkeys((*words_of(knob), *names)))

    def offer_prompts(self, prompts: Sequence[str]) -> None:
        """Let a prompt of before be taken again."""
        shown = [
            (prompt if len(prompt) <= MENU else f"{prompt[: MENU - 1]}…", prompt) for prompt in dict.fromkeys(prompts)
        ]
        if [value for _, value in shown] != [value for _, value in self.earlier.options[1:]]:
            self.earlier.options = [(EARLIER, ""), *shown]

    def _earlier_chosen(self, change: Bunch) -> None:
        if change["new"]:
            self.fields["prompt"].value = change["new"]
            self.earlier.value = ""

    def dim(self, unused: Mapping[str, str]) -> None:
        """Dim the controls of settings that do nothing now, and say why. `unused`: {setting: why}."""
        for name, row in self._rows.items():
            (row.add_class if name in unused else row.remove_class)("wb-unused")
            row.tooltip = f"No effect: {unused[name]}" if name in unused else None
        for group, note in self._notes.items():
            by_why: dict[str, list[str]] = {}
            for name in (name for name in unused if self._group(name) == group):
                by_why.setdefault(unused[name], []).append(knobs()[name].label)
            note.value = unused_html(by_why)

    @staticmethod
    def _group(name: str) -> str:
        return "above" if name in ABOVE else knobs()[name].stage

    def _changed(self, name: str) -> None:
        if self._quiet:
            return
        self._mark()
        self._on_change(name)

    def _mark(self) -> None:
        """Let a reset be pressed only where it would change the value, and say in its tooltip to which."""
        for name, button in self._resets.items():
            start = self._start[name]
            button.disabled = self.fields[name].value == start
            button.tooltip = f"Reset {knobs()[name].label} to {start if start != '' else 'empty'}"
        for field, choices in self._named:
            now = (n for n, values in choices.items() if all(self.fields[k].value == v for k, v in values.items()))
            field.value = next(now, OTHER)

    def _locked(self, change: Bunch) -> None:
        self.lock.icon = "lock" if change["new"] else "unlock"
        self.dice.disabled = change["new"]

    def _rolled(self, _: widgets.Button) -> None:
        self.fields["seed"].value = secrets.randbelow(DRAWN)
