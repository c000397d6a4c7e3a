"""papermill, strictly, by whichever door: our command, its own, or a hand in JupyterLab."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workbench as wb
from workbench.errors import NotebookFailed, NotebookNotFound, ParameterError, UsageError
from workbench.files import home as workbench_home
from workbench.notebook import find_spec, headless, run_notebook
from workbench.notebook.execution import notebook_path
from workbench.notebook.parameters import _assignments, _typed, check_values, checked, parameters_of
from workbench.presets import Preset, presets_folder
from workbench.settings import Settings

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


# what makes a notebook quick; the sweep's spec is written by the test
QUICK: dict[str, dict[str, str]] = {
    "02_sweep": {"spec": "SPEC", "upscaler": "none", "duel_seeds": "1"},
    "04_promote": {"seeds": "2", "challenger": "weight=0.9", "prompt": "portrait photo of Grace Hopper"},
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_stripped_short_and_have_typed_parameters(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
        assert set(cell.metadata) <= {"tags", "jupyter"}, "the state of a front end, or papermill's times"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert len(notebook.cells) <= 12
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert tagged == code[:1]
    found = _assignments(tagged[0].source)
    known = parameters_of(path)
    # papermill gives up on a comment with a quote in it, and then takes the parameter for an unknown one
    assert found and list(found[0]) == list(known) and not found[1]
    for name, parameter in known.items():
        assert parameter.kind.removesuffix(" | None") in ("str", "int", "float", "bool") and parameter.help, name
    assert "wb.check_parameters()" in code[1].source


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
    assert _typed("n", "None", "int | None") is None and _typed("n", "2", "int | None") == 2
    with pytest.raises(ParameterError, match=r"no parameter 'flagg'; did you mean 'flag'"):
        checked(small, {"flagg": "true"})
    for name, text in (("n", "None"), ("n", "1.5"), ("n", "oops"), ("x", "oops"), ("flag", "1")):
        with pytest.raises(ParameterError, match=name):
            checked(small, {name: text})


def with_settings(folder: Path, last: str = "print(strength, wb.headless())") -> Path:
    """A notebook with parameters that bear settings' names."""
    parameters = nbformat.v4.new_code_cell(
        'preset: str = "embedded"  # base\nstrength: float = 0.35  # share\ncfg: float = 5.0  # both\nrun: str = ""  # a run'
    )
    parameters.metadata["tags"] = ["parameters"]
    cells = [parameters, *map(nbformat.v4.new_code_cell, ("import workbench as wb\nwb.check_parameters()", last))]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "settings.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strength": "7"}, "strength = 7.0 is not allowed"),
        ({"strength": "0.01"}, "0.01 of 25 refine_steps is 0 denoising steps"),
        ({"cfg": "0.5"}, "base_cfg = 0.5 is not allowed"),
        ({"preset": "embeded"}, "no preset 'embeded'; did you mean 'embedded'"),
        ({"run": "nothing"}, "no runs are named 'nothing'"),
        ({"strenght": "0.9"}, "no parameter 'strenght'; did you mean 'strength'"),
    ],
)
def test_values_are_checked_against_settings_before_the_kernel_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    monkeypatch.setattr("papermill.execute_notebook", lambda *_, **__: pytest.fail("the kernel was started"))
    with pytest.raises(UsageError) as refused:
        run_notebook(with_settings(tmp_path), given, tmp_path / "out.ipynb")
    assert said in str(refused.value) and not (tmp_path / "out.ipynb").exists()


def test_combinations_are_those_of_the_preset(home: Path) -> None:
    Preset("few", Settings(refine_steps=5, strength=0.5)).save(presets_folder() / "few.json")
    check_values({"preset": "few", "strength": 0.2})
    with pytest.raises(UsageError, match=r"0.1 of 5 refine_steps"):
        check_values({"preset": "few", "strength": 0.1})
    check_values({"strength": 0.1})  # of 25
    check_values(
        {"prompt": "", "model": "", "run": "", "preset": "", "anything": object()}
    )  # "" leaves the preset's own
    with pytest.raises(UsageError, match=r"no spec nowhere\.toml"):
        check_values({"spec": "nowhere.toml"})
    with pytest.raises(UsageError, match="unknown setting 'strenght'"):
        check_values({"spec": str(broken_spec(home))})


def test_defaults_are_checked_with_what_was_given(home: Path, tmp_path: Path) -> None:
    """The notebook's own strength 0.35 does not go with a preset of two refine steps."""
    Preset("few", Settings(refine_steps=2, strength=0.5)).save(presets_folder() / "few.json")
    with pytest.raises(UsageError, match=r"0.35 of 2 refine_steps is 0"):
        checked(with_settings(tmp_path), {"preset": "few"})
    assert checked(with_settings(tmp_path), {"preset": "few", "strength": "1"}) == {"preset": "few", "strength": 1.0}


def broken_spec(folder: Path) -> Path:
    path = folder / "broken.toml"
    path.write_text('preset = "embedded"\n[axes]\nstrenght = [0.2]\n')
    return path


def test_a_spec_is_found_from_the_notebooks_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "mine.toml").write_text("")
    monkeypatch.chdir(tmp_path / "notebooks")
    assert find_spec("mine.toml") == tmp_path / "mine.toml"
    assert find_spec("experiments/demo.toml").is_file()
    assert find_spec("nowhere.toml") == Path("nowhere.toml")


# --- in the notebook itself

Cells = Callable[..., Any]


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cells]:
    """Run cells as a kernel does, the last one being `wb.check_parameters()`; what it raised, or the variables."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.user_ns["wb"] = wb

    def run(*sources: str) -> Any:
        for source in sources:
            assert shell.run_cell(source, store_history=True).success
        done = shell.run_cell("wb.check_parameters()", store_history=True)
        return done.error_in_exec or shell.user_ns

    yield run
    InteractiveShell.clear_instance()


DECLARED = 'strength: float = 0.35  # how much\nsteps_: int = 3  # a number\nname: str = "a"  # a text'


def test_what_papermill_injects_is_checked(cells: Cells) -> None:
    assert cells(DECLARED, "# Parameters\nstrength = 0.5\n")["strength"] == 0.5
    whole = cells(DECLARED, "# Parameters\nstrength = 1\n")["strength"]
    assert whole == 1.0 and type(whole) is float
    for injected, said in (
        ("strenght = 0.9", "no parameter 'strenght'; did you mean 'strength'?"),
        ("strength = 'oops'", "strength = 'oops' is not float"),
        ("strength = 7", "strength = 7.0 is not allowed"),
        ("steps_ = True", "steps_ = True is not int"),
        ("name = 5", "papermill's -r name keeps a number as text"),
    ):
        error = cells(DECLARED, f"# Parameters\n{injected}\n")
        assert isinstance(error, UsageError) and said in str(error)


def test_what_a_hand_wrote_is_checked(cells: Cells) -> None:
    assert cells(DECLARED)["name"] == "a"
    for source, said in (
        (f"{DECLARED}\nstrenght = 0.9", "no parameter 'strenght'"),  # a line of its own, without a type
        (DECLARED.replace("strength", "strenght"), "no parameter 'strenght'; did you mean 'strength'?"),
        (DECLARED.replace("strength", "stregth"), "did you mean 'strength'?"),
        (DECLARED.replace("0.35", "'0.35'"), "is not float"),
        (DECLARED.replace("0.35", "3.5"), "strength = 3.5 is not allowed"),
    ):
        error = cells(source)
        assert isinstance(error, UsageError) and said in str(error), source
    # names of one's own that are near a setting's are no typos
    assert not isinstance(
        cells("prompts: int = 1  # how many\nstep: int = 2  # own\nweight_2: float = 9.0  # own"), Exception
    )


def test_none_is_for_parameters_whose_default_it_is(cells: Cells) -> None:
    optional = "seed: int = None  # None: the preset's\nweight: float = None  # the same"
    assert cells(optional)["seed"] is None
    assert cells(optional, "# Parameters\nweight = 1\n")["weight"] == 1.0
    assert cells(optional, "# Parameters\nseed = None\n")["seed"] is None
    for injected, said in (("seed = 1.5", "seed = 1.5 is not int"), ("weight = 3", "weight = 3.0 is not allowed")):
        assert said in str(cells(optional, f"# Parameters\n{injected}\n"))
    assert "strength = None is not float" in str(cells(DECLARED, "# Parameters\nstrength = None\n"))


def test_the_newest_parameters_count(cells: Cells) -> None:
    """As when a cell is run again after a mistake: what was injected or declared before it is gone."""
    assert isinstance(cells(DECLARED, "# Parameters\nstrenght = 0.9\n"), ParameterError)
    assert cells(DECLARED.replace("0.35", "0.4"))["strength"] == 0.4
    assert cells("x = 1", "other: int = 3  # declared elsewhere\nprint(other)")["strength"] == 0.4


def test_an_error_in_a_notebook_is_one_sentence(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    cells(DECLARED.replace("0.35", "3.5"))
    shown = capsys.readouterr().out
    assert (
        "SettingsError: strength = 3.5 is not allowed" in shown and "Traceback" not in shown and shown.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("env", "parent", "answer"),
    [
        ({}, ["jupyter-lab"], True),
        ({"JPY_SESSION_NAME": "a.ipynb"}, ["python", "/workbench/bin/jupyter-lab", "--port=1"], False),
        ({"VSCODE_PID": "1"}, ["code"], False),
        ({"JPY_SESSION_NAME": "a.ipynb"}, ["python", "/x/bin/papermill", "a.ipynb"], True),
        ({"JPY_SESSION_NAME": "a.ipynb"}, ["python", "-m", "papermill", "a.ipynb"], True),
        ({"JPY_SESSION_NAME": "a.ipynb"}, ["python", "/x/bin/jupyter-nbconvert", "--execute"], True),
        ({"JPY_SESSION_NAME": "a.ipynb", "WORKBENCH_WIDGETS": "off"}, ["jupyter-lab"], True),
        ({"WORKBENCH_WIDGETS": "on"}, ["papermill"], False),
    ],
)
def test_headless(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], parent: list[str], answer: bool) -> None:
    import psutil

    for name in ("JPY_SESSION_NAME", "VSCODE_PID", "WORKBENCH_WIDGETS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    class Parent:
        def cmdline(self) -> list[str]:
            return parent

    monkeypatch.setattr(psutil.Process, "parent", lambda _: Parent())
    assert headless() is answer


def test_a_word_for_widgets_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "maybe")
    with pytest.raises(UsageError, match="must be on or off"):
        headless()


# --- really run


@pytest.mark.slow
def test_run_writes_notebook_and_html(small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = run_notebook(small, {"n": "41"}, tmp_path / "out" / "done.ipynb", quiet=False)
    assert "41.5" in out.read_text() and "41.5" in out.with_suffix(".html").read_text()
    assert "cell 3 of 3" in capfd.readouterr().err
    with pytest.raises(NotebookFailed) as failed:
        run_notebook(small, {"flag": "true"})
    (saved,) = (workbench_home() / "reports").glob("small-20*.ipynb")
    said = str(failed.value)
    assert "cell [3] (print(n + x)) failed, AssertionError: asked to fail; run it again" in said and str(saved) in said
    assert "\n" not in said and "WORKBENCH_WIDGETS" not in os.environ
    assert capfd.readouterr().err.count("cell ") == 0


@pytest.mark.slow
def test_a_kernel_that_dies_is_one_sentence(tmp_path: Path) -> None:
    path = with_settings(tmp_path, "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(NotebookFailed, match=r"the kernel died in cell 3 of 3"):
        run_notebook(path, {}, tmp_path / "out.ipynb")


@pytest.mark.slow
def test_papermill_by_hand_is_as_strict(tmp_path: Path) -> None:
    path, out = with_settings(tmp_path), tmp_path / "out.ipynb"
    done = papermill(path, out, strenght="0.9")
    assert done.returncode != 0 and "ParameterError: there is no parameter 'strenght'" in done.stderr
    done = papermill(path, out, strength="7")
    assert done.returncode != 0 and "SettingsError: strength = 7.0 is not allowed" in done.stderr
    done = papermill(path, out, strength="1")
    assert done.returncode == 0 and "1.0 True" in str(nbformat.read(out, as_version=4).cells[-1].outputs)


def papermill(path: Path, out: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    words = [word for name, value in parameters.items() for word in ("-p", name, value)]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(path), str(out), *words]
    return subprocess.run(command, capture_output=True, text=True)


BY_HAND = ("01_tune", "02_sweep")  # a panel's still picture and a sweep; the others have nothing else of papermill's


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_notebook_runs_by_our_command_and_by_papermills(path: Path, home: Path, tmp_path: Path) -> None:
    spec = tmp_path / "two.toml"
    spec.write_text('preset = "embedded"\n[axes]\nweight = [0.4, 0.8]\nstrength = [0.2, 0.3]\n')
    given = {name: value.replace("SPEC", str(spec)) for name, value in QUICK.get(path.stem, {}).items()}
    out, theirs = run_notebook(path, given, tmp_path / "ours.ipynb"), tmp_path / "theirs.ipynb"
    if path.stem in BY_HAND:
        done = papermill(path, theirs, **given)
        assert done.returncode == 0, done.stderr[-2000:]
    for report in (out, theirs) if path.stem in BY_HAND else (out,):
        assert report.stat().st_size < 3e6
        notebook = nbformat.read(report, as_version=4)
        assert "image/" in report.read_text() or "data:image" in report.read_text()
        assert not any(o.output_type == "error" for cell in notebook.cells for o in cell.get("outputs", []))
        # a widget would be a hole in the report
        shown = [o.data for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o]
        assert not any("application/vnd.jupyter.widget-view+json" in data for data in shown)
    assert out.with_suffix(".html").stat().st_size > 1e5
    if path.stem == "02_sweep":
        it_swept_in_another_process(home, out.read_text())


def it_swept_in_another_process(home: Path, text: str) -> None:
    runs = [*(home / "runs").iterdir()]  # both ways are the same run, and so are their duels
    (run,) = (run for run in runs if "challenge" not in run.name)
    assert len(runs) == 2 and "The winner: " in text
    assert run.name in text and "image/jpeg" in text
    assert f"{run.name}: finished, 4 of 4 cells" in text
    assert (run / "log.txt").exists() and (run / "winner.png").exists()
    # one seed of two prompts proves nothing, and that is said instead of a promotion
    assert "The challenger is not promoted. Undecided: " in text
    assert not (home / "presets" / "production.json").exists()


def test_unknown_notebook() -> None:
    with pytest.raises(NotebookNotFound, match="02_sweep"):
        notebook_path("03_nothing")
