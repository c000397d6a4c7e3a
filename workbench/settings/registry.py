"""`Settings`, made of what the stages declare: a stage registers itself, and from then on its settings are part of it."""

from __future__ import annotations

import difflib
import importlib
import os
import secrets
import threading
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic_core import ErrorDetails

from workbench.errors import SettingsError, StageError

from .knob import Knob
from .values import MOST, Value, Weighted, check_text, parse_plain, weight_of, with_weight

if TYPE_CHECKING:
    from workbench.recipe import BaseSettings, DetailSettings, FacesSettings, RefineSettings, Stage, UpscaleSettings

    class Declared(BaseSettings, RefineSettings, DetailSettings, FacesSettings, UpscaleSettings):
        """For a type checker: the settings of the stages that come with the workbench."""

else:
    Declared = BaseModel

STAGE_MODULES = tuple(f"workbench.recipe.stages.{name}" for name in ("base", "refine", "detail", "faces", "upscale"))
"""The modules whose stages come with the workbench."""

MORE_STAGES = "WORKBENCH_STAGES"
"""Environment variable: further modules that register stages, separated by commas. Processes that are started inherit it."""

MAX_SEED = 2**53 - 1  # the largest whole number that JSON, JavaScript and a browser hold exactly
DRAWN = 2**32  # a drawn seed is below this, as in other tools
MOST_IN_A_ROW = 100  # pictures of one call, as in A1111; beyond that a sweep goes on where it was stopped
Given = TypeVar("Given")


class Settings(Declared):
    """Every setting of one picture. Immutable; equal settings on one machine give equal pixels.

    The fields are those that the registered stages declare. `cfg` may be given in place of `base_cfg` and `refine_cfg` and
    sets both. Raises `SettingsError` for an unknown name, a value out of range, or a combination that cannot run. The
    defaults are the `recommended` preset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def __init__(self, /, **values: object) -> None:
        _load()
        try:
            BaseModel.__init__(self, **values)
        except ValidationError as error:
            raise SettingsError("; ".join(map(_sentence, _one_each(error))) + ".") from None

    @model_validator(mode="before")
    @classmethod
    def _in_full(cls, values: dict[str, object]) -> dict[str, object]:
        """Short names written out, weights put into their lists, numbers in Python's own types, choices in whatever case."""
        return {name: _plain(name, value) for name, value in _fold(expand_cfg(values)).items()}

    @model_validator(mode="after")
    def _runnable(self) -> Self:
        for stage in stages().values():
            stage.check(self)
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that these settings run, in the order in which they run."""
        active = [stage for stage in stages().values() if stage.active(self)]
        return tuple(stage.name for stage in sorted(active, key=lambda stage: stage.place(self)))

    def replace(self, /, **changes: object) -> Settings:
        """A copy with `changes`, of which `cfg` may be one. Raises `SettingsError`."""
        return Settings(**{**self.model_dump(), **expand_cfg(changes)})

    def model_dump(self, **how: Any) -> dict[str, Any]:
        """{setting: value}. Settings that were made before a stage was registered have its defaults, too."""
        own = BaseModel.model_dump(self, **how)
        return own | {name: getattr(self, name) for name in knobs().keys() - self.__dict__.keys()}

    @classmethod
    def model_json_schema(cls, *arguments: Any, **how: Any) -> dict[str, Any]:
        _load()
        return super().model_json_schema(*arguments, **how)

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Settings:
        """As `replace`, since pydantic's own `model_copy` checks nothing and would let an unknown setting through."""
        return self.replace(**(update or {}))

    @classmethod
    def written(cls, values: Mapping[str, object]) -> Settings:
        """The settings that a file has: what it was written before there was is what it was then. Raises `SettingsError`."""
        return cls(**{**before(), **values})

    def resolved(self) -> Settings:
        """The same settings with a seed drawn where it is -1, so that the picture can be made again."""
        return self.replace(seed=secrets.randbelow(DRAWN)) if self.seed == -1 else self

    def in_a_row(self, n: int) -> tuple[Settings, ...]:
        """These settings with `n` seeds in a row (1 to 100). One of -1 is drawn and gone on from; after the largest comes 0.

        Raises `SettingsError` for another `n`.
        """
        if not 1 <= n <= MOST_IN_A_ROW:
            sweep = (
                f"; for more, sweep the seeds (seeds = {n} in a spec), which goes on where it was stopped"
                if n > 0
                else ""
            )
            raise SettingsError(f"{n} pictures cannot be made in one go; ask for 1 to {MOST_IN_A_ROW}{sweep}.")
        first = self.resolved()
        return (first, *(first.replace(seed=(first.seed + k) % (MAX_SEED + 1)) for k in range(1, n)))

    def diff(self, other: Settings) -> dict[str, tuple[Value, Value]]:
        """{name: (here, in other)} for every setting that differs."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in knobs()}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Value:
            """What stages have added since these settings were made, or unpickled: see `model_dump`."""
            if name.startswith("_"):
                return super().__getattr__(name)
            _load()
            if isinstance(declared := getattr(Settings, name, None), property):
                return declared.__get__(self)
            if listed := item_of(name):
                return weight_of(getattr(self, listed[0]), listed[1])
            return knobs()[name].default if name in knobs() else super().__getattr__(name)


# --- the registry ----------------------------------------------------------------------------------------------------

_loading = threading.RLock()
_asked = _loaded = False  # whether the import of the stages' modules has begun, and whether it is done
_stages: dict[str, Stage] = {}
_owners: dict[str, str] = {}  # {setting: the stage that declares it}


def stages() -> Mapping[str, Stage]:
    """{name: stage} of all registered stages, in the order in which they run unless settings say otherwise."""
    _load()
    return MappingProxyType(_stages)


def _load() -> None:
    """Import the stages' modules, at the first use of any setting.

    Not when this module is imported: `import workbench.store` imports it halfway, and a stage that imports the store in its
    turn would find half a module.
    """
    global _asked, _loaded
    if _loaded:
        return
    with _loading:
        if not _asked:
            _asked = True  # what is imported below asks, too
            try:
                for module in STAGE_MODULES:
                    importlib.import_module(module)
                for module in filter(None, os.environ.get(MORE_STAGES, "").split(",")):
                    _import(module)
                _loaded = True
            except BaseException:
                _asked = False
                raise


def register(stage: Stage) -> None:
    """Make a stage part of the workbench: its settings become settings, and whatever runs or shows stages has it, too.

    The module that calls this has to be imported in every process that works with the stage: see `use_stages`.
    Raises `StageError` where the name of the stage or of one of its settings is taken, or a setting is none.
    """
    declared = stage.settings.model_fields
    if odd := [
        name for name, field in declared.items() if not isinstance(field.json_schema_extra, dict) or not _kind(field)
    ]:
        raise StageError(
            f"the stage '{stage.name}' declares {', '.join(odd)} in a way that nothing can show; write "
            "name: type = setting(...), where the type is str, int, float, bool or a Literal of texts."
        )
    if taken := [name for name in declared if _owners.get(name, stage.name) != stage.name or name in TAKEN]:
        raise StageError(
            f"the stage '{stage.name}' declares {', '.join(taken)}, which there is already; give its settings other names."
        )
    if _stages.get(stage.name, stage).settings is not stage.settings:
        raise StageError(
            f"there is a stage '{stage.name}' already; give the new one another name, or unregister('{stage.name}') first."
        )
    _stages[stage.name] = stage
    for name, each in sorted(_stages.items(), key=lambda pair: pair[1].order):
        _stages[name] = _stages.pop(name)
        _owners.update(dict.fromkeys(each.settings.model_fields, name))
    for name, value in vars(stage.settings).items():
        if isinstance(value, property) and not name.startswith("_"):
            setattr(Settings, name, value)
    _rebuild()


def unregister(name: str) -> None:
    """Take a stage out again, with its settings. Settings that were made before keep what they had."""
    del _stages[name]
    for setting_name in [setting_name for setting_name, owner in _owners.items() if owner == name]:
        del _owners[setting_name]
    _rebuild()


def _rebuild() -> None:
    fields = {name: field for stage in _stages.values() for name, field in stage.settings.model_fields.items()}
    Settings.__pydantic_fields__.clear()
    Settings.__pydantic_fields__.update(fields)
    Settings.model_rebuild(force=True)
    knobs.cache_clear()
    shorthands.cache_clear()


TAKEN = ("cfg", "prompts", "seeds", "stages")
"""Names that a setting cannot have: they mean something else where settings are given."""


def use_stages(*modules: str) -> None:
    """Import modules that register stages, here and in every process that this one starts from now on.

    To use them in a process from its start, name them in $WORKBENCH_STAGES. Raises `StageError`.
    """
    _load()
    known = [name for name in os.environ.get(MORE_STAGES, "").split(",") if name]
    for name in modules:
        _import(name)
    os.environ[MORE_STAGES] = ",".join(dict.fromkeys([*known, *modules]))


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise StageError(
            f"the module '{name}', which {MORE_STAGES} names for its stages, cannot be imported ({error}); install it, or "
            f"put its folder on PYTHONPATH."
        ) from error


@cache
def knobs() -> Mapping[str, Knob]:
    """Every setting as a `Knob`, in the order of `Settings`."""
    _load()
    return MappingProxyType({name: _to_knob(name, field) for name, field in Settings.model_fields.items()})


def before() -> dict[str, Value]:
    """What files mean that lack a setting, of those that were added later."""
    return {name: knob.before for name, knob in knobs().items() if knob.before is not None}


def _kind(field: Any) -> str | None:
    """The kind of a setting, as `Knob` has it; None of a type that a setting cannot have."""
    if set(get_args(field.annotation)) == {int, float}:
        return "float"
    if get_args(field.annotation):
        return "choice" if all(isinstance(choice, str) for choice in get_args(field.annotation)) else None
    return {str: "text", int: "int", float: "float", bool: "bool"}.get(field.annotation)


def _to_knob(name: str, field: Any) -> Knob:
    kind: Any = _kind(field)
    choices = get_args(field.annotation) if kind == "choice" else ()
    limits = {key: getattr(m, key) for m in field.metadata for key in ("ge", "gt", "le") if hasattr(m, key)}
    minimum, extra = limits.get("ge", limits.get("gt")), field.json_schema_extra
    return Knob(
        name, kind, field.default, _owners[name], field.title, field.description, extra["unit"], minimum,
        limits.get("le"), extra["step"], choices, extra["why"], extra["before"], extra["aliases"], extra["items"],
        extra["empty"], extra["named"], extra["files"], extra["soft"],
    )  # fmt: skip


@cache
def shorthands() -> Mapping[str, tuple[str, ...]]:
    """{short name: the settings that it sets together}: `cfg` is `base_cfg` and `refine_cfg`."""
    _load()
    found: dict[str, tuple[str, ...]] = {}
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and (short := str(extra["short"])):
            found[short] = (*found.get(short, ()), name)
    return MappingProxyType(found)


def expand_cfg(values: Mapping[str, Given]) -> dict[str, Given]:
    """The values with `cfg` written out as `base_cfg` and `refine_cfg`.

    Raises `SettingsError` if one of the two stands beside `cfg` with another value.
    """
    found = dict(values)
    for short, names in shorthands().items():
        if short not in found:
            continue
        value = found.pop(short)
        if other := [name for name in names if name in found and found[name] != value]:
            raise SettingsError(
                f"{short} sets {' and '.join(names)} together, so it cannot stand beside {other[0]}; give one."
            )
        found |= dict.fromkeys(names, value)
    return found


def item_of(name: str) -> tuple[str, str] | None:
    """("loras", "detail") of "lora:detail"; None for all names that are no weight in a list.

    Raises `SettingsError` where the item is no plain name: a file's, without its folder and ending.
    """
    kind, colon, item = name.partition(":")
    lists = [each.name for each in knobs().values() if each.items == kind] if colon else []
    if not lists:
        return None
    if not item or item != Weighted(item, 0).name or any(c in item for c in ",:") or item != item.strip():
        plain = Weighted(item.strip(), 0).name.split(",")[0] or "detail"
        raise SettingsError(f"'{name}' is no weight; write the file's name alone, as in '{kind}:{plain}'.")
    return (lists[0], item)


def _fold(values: dict[str, object]) -> dict[str, object]:
    """The values with weights such as "lora:detail" put into their lists. Raises `ValueError`."""
    found = {name: value for name, value in values.items() if not item_of(name)}
    for name, value in values.items():
        if listed := item_of(name):
            which, item = listed
            found[which] = with_weight(which, str(found.get(which, "")), item, float(str(check_value(name, value))))
    return found


def check_name(name: str) -> str:
    """`name` if it is a setting (or `cfg`, or a weight in a list), else `SettingsError` with the nearest name."""
    if name in knobs() or name in shorthands() or item_of(name):
        return name
    raise SettingsError(f"unknown setting '{name}'{_nearest(name)}.")


def parse_value(name: str, text: str) -> Value:
    """The value of a setting that was typed as text (command line, papermill), in its own type: `0.3`, `true`, `DPM++ 2M`.

    Raises `SettingsError` if the text is not of that type; ranges are checked when `Settings` is built.
    """
    kind = knob_of(name).kind
    if kind in ("text", "choice"):
        return text
    value = parse_plain(text)
    if kind == "float" and type(value) is int:
        value = float(value)
    if type(value) is not {"int": int, "float": float, "bool": bool}[kind]:
        what = {"int": "a whole number", "float": "a number", "bool": "true or false"}[kind]
        raise SettingsError(f"{name} = {text!r} is not {what}.")
    return value


def check_value(name: str, value: object) -> Value:
    """A value of the setting `name`, in its own type, if it is allowed by itself, whatever the other settings are.

    Raises `SettingsError`.
    """
    knob = knob_of(name)
    field = Settings.model_fields.get(knob.name) or Field(ge=-MOST, le=MOST, allow_inf_nan=False)
    kind: Any = Annotated[field.annotation or float, field]  # type: ignore[valid-type]
    alone: TypeAdapter[Value] = TypeAdapter(kind, config=ConfigDict(strict=True))
    try:
        return alone.validate_python(_plain(knob.name, value))
    except ValidationError as error:
        raise SettingsError(_refusal(name, error.errors()[-1]) + ".") from None


def knob_of(name: str) -> Knob:
    """The knob of a setting, of the first that a short name sets, or of a weight in a list. Raises `SettingsError`."""
    if listed := item_of(name):
        of = knobs()[listed[0]]
        about = f"Weight of {listed[1]} in {of.label}; 0 leaves it out."
        return Knob(name, "float", 0.0, of.stage, f"{of.items} {listed[1]}", about, "", -MOST, MOST, 0.05)
    return knobs()[shorthands().get(check_name(name), (name,))[0]]


def _plain(name: str, value: object) -> object:
    """A value in Python's own type: a DataFrame's row has numpy's scalars, which strict pydantic refuses.

    A choice is given in the case that it is declared in.
    """
    item = getattr(value, "item", None)
    if type(value).__module__ == "numpy" and callable(item):
        value = item()
    if type(value) is float and value.is_integer() and name in Settings.model_fields:
        # of "int | float", which was a whole number before: 2.0 would name a run otherwise than 2 did
        return int(value) if int in get_args(Settings.model_fields[name].annotation) else value
    if not isinstance(value, str):
        return value
    check_text(name, value)
    if name not in knobs():
        return value
    word = value.strip().lower()
    word = dict(knobs()[name].aliases).get(word, word).lower()
    return next((choice for choice in (*knobs()[name].choices, *knobs()[name].named) if choice.lower() == word), value)


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, [*knobs(), *shorthands()], n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; the settings are {', '.join(knobs())}"


def _one_each(error: ValidationError) -> list[ErrorDetails]:
    """One error for each setting: of `int | float` there is one for each type."""
    return list({each["loc"][:1]: each for each in error.errors()}.values())


def _sentence(error: ErrorDetails) -> str:
    if not error["loc"]:
        return error["msg"].removeprefix("Value error, ").rstrip(".")
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return f"unknown setting '{name}'{_nearest(name)}"
    return _refusal(name, error)


def _refusal(name: str, error: ErrorDetails) -> str:
    said = error["msg"][0].lower() + error["msg"][1:]
    return f"{name} = {error['input']!r} is not allowed ({said}); it must be {knob_of(name).allowed}"
