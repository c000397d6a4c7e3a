from pathlib import Path

import nbformat
import pytest

from workbench.notebooks import (
    NotebookFailed,
    NotebookNotFound,
    ParameterError,
    checked,
    notebook_path,
    parameters_of,
    run_notebook,
)

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_stripped_and_have_typed_parameters(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert "widgets" not in notebook.metadata
    known = parameters_of(path)
    assert known
    for name, about in known.items():
        assert about["inferred_type_name"] in ("str", "int", "float", "bool") and about["help"], name


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A notebook of one cell that fails on demand."""
    parameters = nbformat.v4.new_code_cell(
        "n: int = 1  # a number\nx: float = 0.5  # another\nflag: bool = False  # a switch"
    )
    parameters.metadata["tags"] = ["parameters"]
    cells = [parameters, nbformat.v4.new_code_cell("print(n + x)\nassert not flag, 'asked to fail'")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "small.ipynb"
    nbformat.write(notebook, path)
    return path


def test_parameters_are_checked_before_the_kernel_starts(small: Path) -> None:
    assert checked(small, {"n": "3", "x": "1", "flag": "true"}) == {"n": 3, "x": 1.0, "flag": True}
    with pytest.raises(ParameterError, match=r"no parameter 'flagg'; did you mean 'flag'"):
        checked(small, {"flagg": "true"})
    for name, text in (("n", "1.5"), ("n", "oops"), ("x", "oops"), ("flag", "1")):
        with pytest.raises(ParameterError, match=name):
            checked(small, {name: text})


@pytest.mark.slow
def test_run_writes_notebook_and_html(small: Path, tmp_path: Path) -> None:
    out = run_notebook(small, {"n": "41"}, tmp_path / "out" / "done.ipynb")
    assert "41.5" in out.read_text() and "41.5" in out.with_suffix(".html").read_text()
    with pytest.raises(NotebookFailed, match="asked to fail"):
        run_notebook(small, {"flag": "true"}, tmp_path / "out" / "failed.ipynb")
    assert (tmp_path / "out" / "failed.ipynb").exists()


@pytest.mark.slow
def test_the_sweep_notebook_runs_its_sweep_in_another_process(home: Path, tmp_path: Path) -> None:
    spec = tmp_path / "two.toml"
    spec.write_text('preset = "embedded"\n[axes]\nweight = [0.4, 0.8]\nstrength = [0.2, 0.3]\n')
    out = run_notebook("02_sweep", {"spec": str(spec), "upscaler": "none"}, tmp_path / "report.ipynb")
    (run,) = (home / "runs").iterdir()
    by_source = {cell.source: cell.outputs for cell in nbformat.read(out, as_version=4).cells if "outputs" in cell}
    shown = {line: str(outputs) for source, outputs in by_source.items() for line in source.splitlines()}
    assert str(run) in shown["run = wb.start(plan.spec).wait()"]
    assert f"{run.name}: finished, 4 of 4 cells" in shown['wb.attach("latest")  # or a run\'s id']
    assert (run / "log.txt").exists() and (run / "winner.png").exists()
    assert (home / "presets" / "production.json").exists()


def test_unknown_notebook() -> None:
    with pytest.raises(NotebookNotFound, match="02_sweep"):
        notebook_path("03_nothing")
