"""A notebook's parameters, strictly: an unknown or mistyped one, or one that `Settings` refuses, is an error before all else.

papermill itself only warns of an unknown one. `workbench notebook run` checks before the kernel starts; a notebook run by
papermill's own command, or opened in JupyterLab, checks itself by `wb.check_parameters()` in its first cell of code.
"""

from __future__ import annotations

import ast
import difflib
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import ParameterError
from workbench.presets import load_preset
from workbench.runs import find_run
from workbench.settings import Settings, check_text, knobs, parse_plain, shorthands
from workbench.sweeps import make_spec, write_out

TYPES = {"str": str, "int": int, "float": float, "bool": bool}
INJECTED = "# Parameters"  # how the cell begins that papermill puts behind the one tagged `parameters`


def find_spec(spec: str | Path) -> Path:
    """A sweep's spec file by its path, also as seen from the checkout when Jupyter was started in `notebooks/`."""
    roots = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    return next((path for root in roots if (path := root / spec).is_file()), Path(spec))


@dataclass(frozen=True)
class Parameter:
    """A line of a notebook's cell tagged `parameters`: `strength: float = 0.35  # share of the steps`.

    Attributes:
        kind: its type: "str", "int", "float" or "bool", or one of them and " | None" where None is the default.
        default: what stands behind the equals sign, as source.
        help: its comment; "" without one.
    """

    kind: str
    default: str
    help: str


def parameters_of(path: Path) -> dict[str, Parameter]:
    """{name: parameter} of the notebook's cell tagged `parameters`."""
    from papermill import inspect_notebook

    return {
        name: Parameter(_optional(said["inferred_type_name"], said["default"]), said["default"], said["help"])
        for name, said in inspect_notebook(str(path)).items()
    }


def checked(path: Path, given: Mapping[str, str]) -> dict[str, object]:
    """Values that were typed as text, `given`, in the types that the notebook annotates its parameters with.

    They are checked together with the defaults of the others. Raises `ParameterError` for a name that is no parameter or a
    text that is not of its type, and what `check_values` raises.
    """
    known = parameters_of(path)
    values: dict[str, object] = {}
    for name, text in given.items():
        if name not in known:
            raise ParameterError(f"{path.name} has no parameter '{name}'; {_hint(name, known)}.")
        values[name] = _typed(name, text, known[name].kind)
    defaults = {name: _literal(parameter.default) for name, parameter in known.items()}
    check_values({**defaults, **values})
    return values


def check_values(values: Mapping[str, object]) -> None:
    """Refuse parameters that nothing could be done with: in one sentence, and in milliseconds.

    Parameters named like a setting (or `cfg`) must be allowed in the settings of the preset that the parameter `preset`
    names, or in the default settings without one. `preset`, `spec` and `run` must name something that exists. An empty text
    or None stands for "not given". Raises `SettingsError`, `PresetNotFound`, `SpecError`, `RunNotFound`.
    """
    given = {name: value for name, value in values.items() if value not in ("", None)}
    base = load_preset(str(given["preset"])).settings if "preset" in given else Settings()
    base.replace(**{name: value for name, value in given.items() if name in _settings()})
    if "spec" in given:
        write_out(make_spec(find_spec(str(given["spec"]))))
    if "run" in given:
        find_run(str(given["run"]))


def check_parameters() -> None:
    """Check the parameters of the notebook that calls this, whether papermill set them or a person in JupyterLab.

    To be called in the first cell of code after the one tagged `parameters`, whose annotated names (`strength: float = 0.35`)
    are the parameters. A whole number becomes a float where a float is declared. Raises `ParameterError` for a name that is
    not declared or a value of another type, and what `check_values` raises.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    space = vars(sys.modules["__main__"]) if shell is None else shell.user_ns
    declared, written = _declared(space)
    for name in written:
        if name not in declared:
            raise ParameterError(f"there is no parameter '{name}'; {_hint(name, declared)}.")
    for name, kind in declared.items():
        if name not in _settings() and (meant := _misspelt(name)):
            raise ParameterError(f"there is no parameter '{name}'; did you mean '{meant}'?")
        space[name] = _of_type(name, space[name], kind)
    check_values({name: space[name] for name in declared})


def _declared(space: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """({name: type} of the parameters, other names that were set as if they were one).

    Both are read from IPython's history, `space["In"]`: the newest cell that annotates names declares the parameters; the
    other names are set in it without a type, or in the cell that papermill put behind it.
    """
    cells: list[str] = space.get("In", [])[:-1]  # the last cell is the one that calls this
    for i in range(len(cells) - 1, -1, -1):
        if (found := _assignments(cells[i])) and found[0]:
            injected = [_assignments(cell) for cell in cells[i + 1 :] if cell.lstrip().startswith(INJECTED)]
            return found[0], [*found[1], *(name for each in injected if each for name in each[1])]
    kinds = {name: getattr(kind, "__name__", str(kind)) for name, kind in space.get("__annotations__", {}).items()}
    return {name: kind for name, kind in kinds.items() if kind in TYPES and name in space}, []


def _assignments(source: str) -> tuple[dict[str, str], list[str]] | None:
    """({name: type}, names without a type) of a cell that does nothing but assign; None for any other cell."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    typed, plain = {}, []
    for line in body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value:
            typed[line.target.id] = _optional(ast.unparse(line.annotation), ast.unparse(line.value))
        elif isinstance(line, ast.Assign) and all(isinstance(target, ast.Name) for target in line.targets):
            plain += [target.id for target in line.targets if isinstance(target, ast.Name)]
        else:
            return None
    return typed, plain


def _settings() -> tuple[str, ...]:
    return (*knobs(), *shorthands())


def _hint(name: str, known: Collection[str]) -> str:
    """Which of the known names may be meant."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"the parameters are {', '.join(known)}"


def _misspelt(name: str) -> str | None:
    """The setting that `name` was meant for: one of the same letters ("strenght") or with one more inside ("promt").

    "prompts" is not a misspelt "prompt": a notebook may well have both.
    """
    for setting in _settings():
        if sorted(name) == sorted(setting):
            return setting
        cut = {setting[:i] + setting[i + 1 :] for i in range(1, len(setting) - 1)}
        if len(setting) > 4 and name in cut:
            return setting
    return None


def _optional(kind: str, default: str) -> str:
    """The type of a parameter: where the default is None, also None. papermill cannot read an annotation `int | None`."""
    return f"{kind} | None" if default == "None" else kind


def _literal(text: str) -> object:
    """The value of a default; None where it is computed: `check_parameters` sees it when it has been."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _typed(name: str, text: str, kind: str) -> object:
    """The value of a parameter that was typed as text. Raises `ParameterError`, and `SettingsError` for text that is none."""
    check_text(name, text)
    if kind == "str":
        return text
    if name in _settings() and text.strip().lower() in ("", "none", "null"):
        return None
    if text == "None":
        return _of_type(name, None, kind)
    if kind.removesuffix(" | None") in TYPES:
        return _of_type(name, parse_plain(text), kind)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _of_type(name: str, value: object, kind: str) -> object:
    """The value, if it is of the type `kind`; a whole number becomes a float. Raises `ParameterError`."""
    if value is None and kind.endswith(" | None"):
        return None
    kind = kind.removesuffix(" | None")
    if kind == "float" and type(value) is int:
        return float(value)
    if kind in TYPES and type(value) is not TYPES[kind]:
        raw = f" (papermill's -r {name} keeps a number as text)" if kind == "str" else ""
        raise ParameterError(f"{name} = {value!r} is not {kind}; the notebook's parameters cell says so{raw}.")
    return value
