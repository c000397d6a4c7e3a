"""What version 0.1 wrote is still read: a run opens, presets and pictures load, notebooks find their imports.

`before/` was written by the last commit before the rooms (0a1d6a0), by `workbench sweep before.toml`, `promote latest` twice,
and `generate --preset embedded --set width=64 ... --set upscaler=realesr-animevideov3 --seed 5`.
"""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path

import pytest

import workbench as wb
from workbench.files import read_settings
from workbench.runs import begun_run
from workbench.store import Store
from workbench.sweeps import Costs, prepare

BEFORE = Path(__file__).parent / "before"
RUN = "2026-11-26-before-e7dcf627"


@pytest.fixture
def old_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home as version 0.1 left it."""
    shutil.copytree(BEFORE / "home", home)
    monkeypatch.setenv("WORKBENCH_DEVICE", "cpu")
    return home


def test_a_run_opens(old_home: Path) -> None:
    run = wb.find_run("latest")
    assert run.id == RUN and run.states() == {"done": 2, "no_face": 0, "failed": 0, "to_do": 0}
    assert run.summary()["mean"].to_dict() == pytest.approx({1.0: 36.51, 0.2: 31.131}, abs=0.01)
    again = wb.promote(run, name="again", force="to see that it opens").settings
    assert again.weight == 1.0 and again.prompt_syntax == "plain"
    assert {record["settings"]["prompt_syntax"] for record in run.records()} == {"plain"}


def test_the_same_sweep_is_the_same_run(old_home: Path) -> None:
    """Its cells are made again, since keys have come to name the machine."""
    planned, _ = prepare(BEFORE / "before.toml", Store(None))
    found = begun_run(planned.hash)
    assert found is not None and found.id == RUN
    assert {cell.key for cell in planned.cells}.isdisjoint(record["key"] for record in found.records())


def test_a_picture_tells_its_settings() -> None:
    settings = read_settings(BEFORE / "four_stages.png")
    assert settings.stages == ("base", "refine", "faces", "upscale") and settings.seed == 5
    assert settings.prompt_syntax == "plain" and settings.strength_steps == "scaled"


def test_presets_load_and_roll_back(old_home: Path) -> None:
    assert wb.load_preset("production").settings.weight == 1.0
    assert wb.load_preset("production").settings.prompt_syntax == "plain"
    assert wb.roll_back("production").evidence["run"] == RUN


def test_what_was_measured_counts(old_home: Path) -> None:
    settings = wb.load_preset("production").settings
    seconds = Costs.at_home().seconds("base", settings)
    assert seconds is not None and 1 < seconds < 60


IMPORTS = {  # the lines by which the notebooks of 0.1 imported
    "01_tune": "import workbench as wb\nfrom workbench.ui import Tuner",
    "02_sweep": """
import workbench as wb
from workbench import page, plots
from workbench.promotion import choose
from workbench.report import jpeg, strip
from workbench.specs import make_spec
from workbench.ui import Ballot, SweepPanel
page.ranked_html, plots.heat_maps, plots.main_effects, plots.pareto_front, plots.stage_times
""",
    "03_scores": """
import workbench as wb
from workbench.heatmaps import heatmap
from workbench.images import open_picture
from workbench.lessons import face_of, gains, ladder, ladder_chart, lesson_sheet, tricks
from workbench.report import jpeg
from workbench.ui import Ballot
""",
    "04_promote": """
import workbench as wb
from workbench.challenges import stand_ins
from workbench.report import jpeg
from workbench.ui import Promotion
""",
}


@pytest.mark.parametrize("notebook", IMPORTS)
def test_notebooks_find_what_they_import(notebook: str) -> None:
    space: dict[str, object] = {}
    exec(IMPORTS[notebook], space)
    assert all(hasattr(space["wb"], name) for name in ("check_parameters", "find_spec", "plan", "generate", "score"))


def test_former_modules_are_the_very_modules_of_now() -> None:
    from workbench import files
    from workbench.notebook import widgets

    assert import_module("workbench.images") is files and import_module("workbench.ui") is widgets
    assert files.__spec__ and files.__spec__.name == "workbench.files"
