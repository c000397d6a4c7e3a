"""Running a notebook by papermill, as a report: with checked parameters, without widgets, and with signs of life."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import NotebookFailed, NotebookNotFound
from workbench.files import check_writable, home, write_atomic, writing
from workbench.runs import list_runs
from workbench.settings import check_text

from .front_end import without_widgets
from .parameters import checked

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from papermill.engines import NotebookExecutionManager

TICK = 1.0  # seconds between two signs of life on a terminal
LINE = 3.0  # the same in a log file


def notebook_path(name: str | Path) -> Path:
    """A notebook by path, or by its name in `notebooks/` (`02_sweep`)."""
    folders = [Path.cwd() / "notebooks", Path(__file__).resolve().parents[2] / "notebooks"]
    for path in [Path(name), *(folder / f"{name}.ipynb" for folder in folders)]:
        if path.is_file():
            return path
    known = sorted({p.stem for folder in folders for p in folder.glob("*.ipynb")})
    raise NotebookNotFound(f"there is no notebook '{name}'; there are {', '.join(known)}.")


def run_notebook(
    name: str | Path, parameters: Mapping[str, str], output: Path | None = None, *, quiet: bool = True
) -> Path:
    """Execute a notebook with checked parameters and return `output`, where it was written, with the same as HTML beside it.

    `name`: its path, or its name in `notebooks/`. `output`: `reports/NAME-<date>T<time>.ipynb` in `$WORKBENCH_HOME` if left
    out. Its widgets show still pictures. Unless `quiet`, stderr gets a line for every cell, and a sign of life while one
    takes long. Raises `NotebookNotFound`, `NotebookFailed`, and what `parameters.checked` raises.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    path = notebook_path(name)
    values = checked(path, parameters)
    output = output or home() / "reports" / f"{path.stem}-{datetime.now():%Y-%m-%dT%H%M%S}.ipynb"
    for place in (path, output):
        check_text("the notebook's path", str(place))  # papermill writes both paths into it
    for written in (output, output.with_suffix(".html")):
        check_writable(written)
    again = "run it again: what was finished is in the store, and it goes on from there"
    progress = CellProgress(path.stem, quiet)
    try:
        with writing(output), without_widgets(), progress:
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
    """What a cell is called: its first line that does something, cut to 50 characters."""
    lines = [
        line.strip() for line in source.splitlines() if line.strip() and not line.strip().startswith(("#", "import"))
    ]
    line = next((line for line in lines if not line.startswith("from ")), "")
    return line if len(line) <= 50 else f"{line[:49]}…"


def _watched_by(progress: CellProgress) -> str:
    """Register a papermill engine that tells `progress` of each cell it begins and ends; return its name."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Watched(NBClientEngine):
        @classmethod
        def execute_managed_notebook(
            cls, nb_man: NotebookExecutionManager, kernel_name: str, *rest: Any, **more: Any
        ) -> object:
            begin, end = nb_man.cell_start, nb_man.cell_complete

            def cell_start(cell: NotebookNode, cell_index: int | None = None, **rest: object) -> None:
                begin(cell, cell_index, **rest)
                progress.begin(cell, nb_man.nb.cells)

            def cell_complete(cell: NotebookNode, cell_index: int | None = None, **rest: object) -> None:
                end(cell, cell_index, **rest)
                progress.end(cell)

            nb_man.cell_start, nb_man.cell_complete = cell_start, cell_complete
            return super().execute_managed_notebook(nb_man, kernel_name, *rest, **more)

    papermill_engines.register("workbench", Watched)
    return "workbench"


class CellProgress:
    """A line on stderr for every cell of code that is done, and signs of life while one is at work.

    papermill's own bar moves only between cells, so that an hour's sweep looks like a dead process.
    """

    def __init__(self, title: str, quiet: bool) -> None:
        self._title, self._quiet, self._tty = title, quiet, sys.stderr.isatty()
        self._cell: NotebookNode | None = None  # the one at work
        self._count, self._of = 0, 0  # cells of code that have begun, of how many
        self._line = ""  # what the cell is called
        self._said = ""  # its last line on stderr
        self._since = self._began = time.time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    @property
    def where(self) -> str:
        return f"cell {self._count} of {self._of}"

    def __enter__(self) -> CellProgress:
        if not self._quiet:
            self._print(f"{self._title}: starting the kernel\n")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if not self._quiet:
            self._thread.join()

    def begin(self, cell: NotebookNode, cells: list[NotebookNode]) -> None:
        """Note the cell that begins; those of text take no time and are not counted."""
        if cell.cell_type == "code":
            self._of = sum(each.cell_type == "code" for each in cells)
            self._cell, self._since, self._said, self._line = cell, time.time(), "", _first_line(cell.source)
            self._count += 1

    def end(self, cell: NotebookNode) -> None:
        if cell is self._cell and not self._quiet:
            self._cell = None
            self._print(f"{self.where}  {time.time() - self._since:6.1f} s  {self._line}\n")

    def write(self, text: str) -> None:
        """Take what the cell writes to stderr, mostly a bar of its own. papermill uses this object as a file."""
        lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text))
        self._said = next((line.strip() for line in reversed(lines) if line.strip()), self._said)

    def flush(self) -> None: ...

    def _tick(self) -> None:
        while not self._over.wait(TICK if self._tty else LINE):
            if self._cell is not None:
                alive = f"{self.where}  {time.time() - self._since:6.0f} s  {self._sweep() or self._said or self._line}"
                self._print(alive[:118] if self._tty else f"{alive}\n")

    def _sweep(self) -> str:
        """How far the sweep is that the notebook has started in a process of its own; "" if there is none."""
        from workbench.sweeps import attach

        newest = next(iter(list_runs()), None)
        if newest is None or not (lock := newest.path / "lock").exists() or lock.stat().st_mtime < self._began:
            return ""
        watched = attach(newest)
        return str(watched) if watched.state == "running" else ""

    def _print(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}" if self._tty else text)
        sys.stderr.flush()
