"""What version 0.1 wrote is still read: a run opens, a store is hit, presets and pictures load, notebooks find their imports.

`before/` was written by the last commit before the rooms (0a1d6a0), by `workbench sweep before.toml`, `promote latest` twice,
and `generate --preset embedded --set width=64 ... --set upscaler=realesr-animevideov3 --seed 5`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import workbench as wb
from workbench.files import open_picture, pixels_sha256, read_settings
from workbench.models import weights
from workbench.recipe import Bench, keys as content_keys, stage_keys
from workbench.store import Store
from workbench.sweeps import Costs

BEFORE = Path(__file__).parent / "before"
RUN = "2026-11-26-before-e7dcf627"


@pytest.fixture
def old_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home as version 0.1 left it, and the libraries as they were then: newer ones rightly make other keys."""
    shutil.copytree(BEFORE / "home", home)
    versions = json.loads((BEFORE / "versions.json").read_text())
    for module in (content_keys, weights):
        monkeypatch.setattr(module, "version", versions.__getitem__)
    monkeypatch.setenv("WORKBENCH_DEVICE", "cpu")
    content_keys.library_versions.cache_clear()
    yield home
    content_keys.library_versions.cache_clear()


def test_a_run_opens(old_home: Path) -> None:
    run = wb.find_run("latest")
    assert run.id == RUN and run.states() == {"done": 2, "no_face": 0, "failed": 0, "to_do": 0}
    assert run.summary()["mean"].to_dict() == pytest.approx({1.0: 36.51, 0.2: 31.131}, abs=0.01)
    assert wb.promote(run, name="again").settings.weight == 1.0


def test_a_store_is_hit_and_the_same_sweep_goes_on(old_home: Path) -> None:
    bench = Bench(Store.at_home())
    records = [(r["key"], r["pixels_sha256"]) for r in wb.find_run("latest").records()]
    run = wb.sweep(BEFORE / "before.toml", on=bench, quiet=True)
    assert run.id == RUN and not any(bench.counters()["stages"].values()) and bench.loaded == ()
    assert [(r["key"], r["pixels_sha256"]) for r in run.records()] == records


def test_a_picture_makes_itself_again_from_the_store(old_home: Path) -> None:
    settings = read_settings(BEFORE / "four_stages.png")
    bench = Bench(Store.at_home())
    made = bench.generate(settings)
    assert list(made.stages) == ["base", "refine", "faces", "upscale"]
    assert not any(made.counters["stages"].values())
    assert pixels_sha256(made.image) == pixels_sha256(open_picture(BEFORE / "four_stages.png"))


def test_another_version_of_a_library_is_another_key(old_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the test above would see a key that changed."""
    settings = read_settings(BEFORE / "four_stages.png")
    keys = stage_keys(settings)
    monkeypatch.setattr(content_keys, "version", lambda name: "0")
    content_keys.library_versions.cache_clear()
    assert set(stage_keys(settings).values()).isdisjoint(keys.values())


def test_presets_load_and_roll_back(old_home: Path) -> None:
    assert wb.load_preset("production").settings.weight == 1.0
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
