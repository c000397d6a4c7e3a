"""papermill, strictly: an unknown or mistyped parameter is an error before the kernel starts (papermill only warns)."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from .files import write_atomic, writing
from .settings import UsageError, WorkbenchError

TYPES = {"str": str, "int": int, "float": float, "bool": bool}


class NotebookNotFound(UsageError):
    """No notebook of that name."""


class ParameterError(UsageError):
    """A parameter that the notebook does not have, or of the wrong type."""


class NotebookFailed(WorkbenchError):
    """A cell raised; the notebook up to there was saved."""


def notebook_path(name: str | Path) -> Path:
    """A notebook by path, or by its name in `notebooks/` (`02_sweep`)."""
    folders = [Path.cwd() / "notebooks", Path(__file__).resolve().parent.parent / "notebooks"]
    for path in [Path(name), *(folder / f"{name}.ipynb" for folder in folders)]:
        if path.is_file():
            return path
    known = sorted({p.stem for folder in folders for p in folder.glob("*.ipynb")})
    raise NotebookNotFound(f"there is no notebook '{name}'; there are {', '.join(known)}.")


def parameters_of(path: Path) -> dict[str, Any]:
    """{name: papermill's description} of a notebook's `parameters` cell, whose entries are annotated and have a comment."""
    from papermill import inspect_notebook

    return inspect_notebook(str(path))


def checked(path: Path, given: dict[str, str]) -> dict[str, Any]:
    """Values typed as text, in the types of the notebook's annotations. Raises `ParameterError`."""
    known = parameters_of(path)
    values = {}
    for name, text in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}"
            raise ParameterError(f"{path.name} has no parameter '{name}'; {hint}.")
        values[name] = _typed(name, text, known[name]["inferred_type_name"])
    return values


def _typed(name: str, text: str, kind: str) -> Any:
    if kind == "str":
        return text
    try:
        value = json.loads(text.lower() if kind == "bool" else text)
    except ValueError:
        value = text
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind in TYPES and type(value) is not TYPES[kind]:
        raise ParameterError(f"{name} = {text!r} is not {kind}; the notebook's parameters cell says so.")
    return value


def run_notebook(name: str | Path, parameters: dict[str, str], output: Path) -> Path:
    """Execute a notebook with checked parameters and write it, and the same as HTML, to `output`.

    Raises `NotebookNotFound`, `ParameterError`, `NotebookFailed`.
    """
    import nbformat
    import papermill
    from nbconvert import HTMLExporter

    path = notebook_path(name)
    values = checked(path, parameters)
    try:
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            papermill.execute_notebook(str(path), str(output), parameters=values, kernel_name="python3")
    except papermill.PapermillExecutionError as error:
        raise NotebookFailed(
            f"{path.name}: cell {error.exec_count} raised {error.ename}: {error.evalue} (see {output})."
        ) from None
    html, _ = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(
        nbformat.read(output, as_version=4)
    )
    write_atomic(output.with_suffix(".html"), html.encode())
    return output
