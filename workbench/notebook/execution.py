"""papermill, strictly: an unknown or mistyped parameter, or one that `Settings` refuses, is an error before anything runs.

papermill itself only warns of an unknown one. `workbench notebook run` checks before the kernel starts; a notebook run by
papermill's own command, or opened in JupyterLab, checks itself by `wb.check_parameters()` in its first cell of code.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from workbench.errors import NotebookFailed, NotebookNotFound, ParameterError, UsageError
from workbench.files import home, write_atomic, writing
from workbench.presets import load_preset
from workbench.runs import find_run, list_runs
from workbench.sweeps import make_spec, write_out

from ..settings import Settings

TYPES = {"str": str, "int": int, "float": float, "bool": bool}
SETTINGS = (*Settings.model_fields, "cfg")
INJECTED = "# Parameters"  # how the cell begins that papermill puts behind the one tagged `parameters`
BATCH_TOOLS = {"papermill", "jupyter-nbconvert", "jupyter-execute", "nbconvert", "workbench", "workbench.cli"}
TICK = 1.0  # seconds between two signs of life on a terminal
LINE = 30.0  # the same in a log file


def notebook_path(name: str | Path) -> Path:
    """A notebook by path, or by its name in `notebooks/` (`02_sweep`)."""
    folders = [Path.cwd() / "notebooks", Path(__file__).resolve().parents[2] / "notebooks"]
    for path in [Path(name), *(folder / f"{name}.ipynb" for folder in folders)]:
        if path.is_file():
            return path
    known = sorted({p.stem for folder in folders for p in folder.glob("*.ipynb")})
    raise NotebookNotFound(f"there is no notebook '{name}'; there are {', '.join(known)}.")


def find_spec(spec: str | Path) -> Path:
    """A sweep's spec file by its path, also as seen from the checkout when Jupyter was started in `notebooks/`."""
    roots = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    return next((path for root in roots if (path := root / spec).is_file()), Path(spec))


def headless() -> bool:
    """Whether a notebook's widgets would have nobody to look at them, so that it shows still pictures instead.

    `WORKBENCH_WIDGETS` ("on" or "off") decides; else there is a front end only where a Jupyter server or VS Code started
    this kernel, and not papermill, nbconvert or `workbench notebook run`, which in their terminals inherit its variables.
    """
    said = os.environ.get("WORKBENCH_WIDGETS", "").strip().lower()
    if said in ("on", "off"):
        return said == "off"
    if said:
        raise UsageError(f"WORKBENCH_WIDGETS = '{said}' is not allowed; it must be on or off, or not be set.")
    if not {"JPY_SESSION_NAME", "VSCODE_PID"} & set(os.environ):
        return True
    import psutil

    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
    except psutil.Error:  # another user's process: a server that starts kernels for others
        return False
    return not BATCH_TOOLS.isdisjoint(Path(word).name for word in words[:4])


# --- what a parameter may be


def parameters_of(path: Path) -> dict[str, Any]:
    """{name: papermill's description} of a notebook's `parameters` cell, whose entries are annotated and have a comment."""
    from papermill import inspect_notebook

    return inspect_notebook(str(path))


def checked(path: Path, given: dict[str, str]) -> dict[str, Any]:
    """Values typed as text, in the types of the notebook's annotations and within the ranges of `Settings`.

    Raises `ParameterError`, and what `check_values` raises.
    """
    known = parameters_of(path)
    values = {}
    for name, text in given.items():
        if name not in known:
            raise ParameterError(f"{path.name} has no parameter '{name}'; {_hint(name, known)}.")
        values[name] = _typed(name, text, _optional(known[name]["inferred_type_name"], known[name]["default"]))
    defaults = {name: _literal(about["default"]) for name, about in known.items()}
    check_values({**defaults, **values})
    return values


def check_values(values: dict[str, Any]) -> None:
    """Refuse parameters that nothing could be done with: in one sentence, and in milliseconds.

    Those that bear a setting's name (or are `cfg`) are put into the settings of the parameter `preset`, if there is one,
    so that ranges and combinations are `Settings`' own; an empty text means that the preset's value stays. `preset`, `spec`
    and `run` must name something unless they are empty. Raises `SettingsError`, `PresetNotFound`, `SpecError`, `RunNotFound`.
    """
    given = {name: value for name, value in values.items() if value not in ("", None)}
    base = load_preset(given["preset"]).settings if "preset" in given else Settings()
    base.replace(**{name: value for name, value in given.items() if name in SETTINGS})
    if "spec" in given:
        write_out(make_spec(find_spec(given["spec"])))
    if "run" in given:
        find_run(given["run"])


def check_parameters() -> None:
    """Check this notebook's parameters: by whom they were set, papermill or a hand in JupyterLab, makes no difference.

    Called in the first cell of code after the one tagged `parameters`, whose annotated names (`strength: float = 0.35`) are
    the parameters. Whole numbers become floats where a float is declared. Raises `ParameterError` for a name that is not
    declared or a value of another type, and what `check_values` raises.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    space = vars(sys.modules["__main__"]) if shell is None else shell.user_ns
    declared, written = _declared(space)
    for name in written:
        if name not in declared:
            raise ParameterError(f"there is no parameter '{name}'; {_hint(name, declared)}.")
    for name, kind in declared.items():
        if name not in SETTINGS and (meant := _misspelt(name)):
            raise ParameterError(f"there is no parameter '{name}'; did you mean '{meant}'?")
        space[name] = _of_type(name, space[name], kind)
    check_values({name: space[name] for name in declared})


def _declared(space: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """({name: type} of the parameters cell, names set there without a type or injected behind it), from IPython's history."""
    cells: list[str] = space.get("In", [])[:-1]  # the last one is at work: it calls this
    for i in range(len(cells) - 1, -1, -1):
        if (found := _assignments(cells[i])) and found[0]:
            injected = [_assignments(cell) for cell in cells[i + 1 :] if cell.lstrip().startswith(INJECTED)]
            return found[0], [*found[1], *(name for each in injected if each for name in each[1])]
    kinds = {name: getattr(kind, "__name__", str(kind)) for name, kind in space.get("__annotations__", {}).items()}
    return {name: kind for name, kind in kinds.items() if kind in TYPES and name in space}, []


def _assignments(source: str) -> tuple[dict[str, str], list[str]] | None:
    """({name: type}, names without one) of a cell that does nothing but assign; None for another."""
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


def _hint(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"the parameters are {', '.join(known)}"


def _misspelt(name: str) -> str | None:
    """The setting that has all letters of `name` ("strenght"), or one more inside ("promt"); "prompts" is another word."""
    for setting in SETTINGS:
        if sorted(name) == sorted(setting):
            return setting
        cut = {setting[:i] + setting[i + 1 :] for i in range(1, len(setting) - 1)}
        if len(setting) > 4 and name in cut:
            return setting
    return None


def _optional(kind: str, default: str) -> str:
    """The type of a parameter, which may be None where that is its default; papermill cannot read `int | None`."""
    return f"{kind} | None" if default == "None" else kind


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a default that is computed is looked at when it has been
        return None


def _typed(name: str, text: str, kind: str) -> Any:
    if kind == "str":
        return text
    if name in SETTINGS and text.strip().lower() in ("", "none", "null"):
        return None
    try:
        value = None if text == "None" else json.loads(text.lower() if kind.startswith("bool") else text)
    except ValueError:
        value = text
    return _of_type(name, value, kind)


def _of_type(name: str, value: Any, kind: str) -> Any:
    if value is None and kind.endswith(" | None"):
        return None
    kind = kind.removesuffix(" | None")
    if kind == "float" and type(value) is int:
        return float(value)
    if kind in TYPES and type(value) is not TYPES[kind]:
        raw = f" (papermill's -r {name} keeps a number as text)" if kind == "str" else ""
        raise ParameterError(f"{name} = {value!r} is not {kind}; the notebook's parameters cell says so{raw}.")
    return value


# --- running one


def run_notebook(
    name: str | Path, parameters: dict[str, str], output: Path | None = None, *, quiet: bool = True
) -> Path:
    """Execute a notebook with checked parameters; write it, and the same as HTML, to `output`. Widgets give way to pictures.

    `output` is `reports/NAME-<date>T<time>.ipynb` in `$WORKBENCH_HOME` if left out. Unless `quiet`, stderr gets a line for
    every cell, and a sign of life while one takes long. Raises `NotebookNotFound`, `NotebookFailed`, and as `checked`.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    path = notebook_path(name)
    values = checked(path, parameters)
    output = output or home() / "reports" / f"{path.stem}-{datetime.now():%Y-%m-%dT%H%M%S}.ipynb"
    again = "run it again: what was finished is in the store, and it goes on from there"
    progress = _Progress(path.stem, quiet)
    try:
        with writing(output), _without_widgets(), progress:
            output.parent.mkdir(parents=True, exist_ok=True)
            papermill.execute_notebook(
                str(path), str(output), parameters=values, kernel_name="python3", engine_name=_watched_by(progress),
                progress_bar=False, stderr_file=progress,
            )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        said = " ".join(str(error.evalue).split()).rstrip(".")
        where = f"cell [{error.exec_count}] ({_first_line(error.source)})"
        raise NotebookFailed(f"{path.stem}: {where} failed, {error.ename}: {said}; {again} (see {output}).") from None
    except DeadKernelError:
        raise NotebookFailed(
            f"{path.stem}: the kernel died in {progress.where} (killed by hand or for want of memory); {again}."
        ) from None
    _write_html(output)
    return output


def _write_html(output: Path) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True)
    html, _ = exporter.from_notebook_node(nbformat.read(output, as_version=4))
    write_atomic(output.with_suffix(".html"), html.encode())


def _first_line(source: str) -> str:
    lines = [
        line.strip() for line in source.splitlines() if line.strip() and not line.strip().startswith(("#", "import"))
    ]
    line = next((line for line in lines if not line.startswith("from ")), "")
    return line if len(line) <= 50 else f"{line[:49]}…"


@contextmanager
def _without_widgets() -> Iterator[None]:
    """`headless()` in the kernels that are started meanwhile."""
    before = os.environ.get("WORKBENCH_WIDGETS")
    os.environ["WORKBENCH_WIDGETS"] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["WORKBENCH_WIDGETS"]
        else:
            os.environ["WORKBENCH_WIDGETS"] = before


def _watched_by(progress: _Progress) -> str:
    """The name of a papermill engine that tells `progress` which cell it is at."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Watched(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **more: Any) -> Any:
            begin, end = nb_man.cell_start, nb_man.cell_complete

            def cell_start(cell: Any, cell_index: int, **rest: Any) -> None:
                begin(cell, cell_index, **rest)
                progress.begin(cell, nb_man.nb.cells)

            def cell_complete(cell: Any, cell_index: int, **rest: Any) -> None:
                end(cell, cell_index, **rest)
                progress.end(cell)

            nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
            return super().execute_managed_notebook(nb_man, kernel_name, **more)

    papermill_engines.register("workbench", Watched)
    return "workbench"


class _Progress:
    """A line on stderr for every cell of code that is done, and a sign of life of the one at work.

    papermill's own bar moves only between cells, so that an hour's sweep looks like a dead process.
    """

    def __init__(self, title: str, quiet: bool) -> None:
        self._title, self._quiet, self._tty = title, quiet, sys.stderr.isatty()
        self._cell, self._count, self._of, self._line, self._said = None, 0, 0, "", ""
        self._since = self._began = time.time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    @property
    def where(self) -> str:
        return f"cell {self._count} of {self._of}"

    def __enter__(self) -> _Progress:
        if not self._quiet:
            self._print(f"{self._title}: starting the kernel\n")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if not self._quiet:
            self._thread.join()

    def begin(self, cell: Any, cells: list[Any]) -> None:
        """Note the cell that begins; those of text take no time and are not counted."""
        if cell.cell_type == "code":
            self._of = sum(each.cell_type == "code" for each in cells)
            self._cell, self._since, self._said, self._line = cell, time.time(), "", _first_line(cell.source)
            self._count += 1

    def end(self, cell: Any) -> None:
        if cell is self._cell and not self._quiet:
            self._cell = None
            self._print(f"{self.where}  {time.time() - self._since:6.1f} s  {self._line}\n")

    def write(self, text: str) -> None:
        """What the cell wrote to stderr: a bar of its own, mostly. papermill takes this for a file."""
        lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text))
        self._said = next((line.strip() for line in reversed(lines) if line.strip()), self._said)

    def flush(self) -> None: ...

    def _tick(self) -> None:
        while not self._over.wait(TICK if self._tty else LINE):
            if self._cell is not None:
                alive = f"{self.where}  {time.time() - self._since:6.0f} s  {self._sweep() or self._said or self._line}"
                self._print(alive[:118] if self._tty else f"{alive}\n")

    def _sweep(self) -> str:
        """How far the sweep is that the notebook has started in a process of its own; "" where it has none."""
        from workbench.sweeps import attach

        newest = next(iter(list_runs()), None)
        if newest is None or not (lock := newest.path / "lock").exists() or lock.stat().st_mtime < self._began:
            return ""
        watched = attach(newest)
        return str(watched) if watched.state == "running" else ""

    def _print(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}" if self._tty else text)
        sys.stderr.flush()
