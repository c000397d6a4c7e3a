import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli import commands as cli
from workbench.presets.preset import Preset, load_preset, presets_folder
from workbench.settings import Settings


def call(*words: str) -> str:
    done = CliRunner().invoke(cli.app, [*words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def two(home: Path) -> None:
    for about, strength in (("old", 0.3), ("new", 0.5)):
        Preset("production", Settings(strength=strength), about).save(presets_folder() / "production.json")


def test_diff(two: None) -> None:
    Preset("mine", Settings(strength=0.4, cfg=5.0)).save(presets_folder() / "mine.json")
    assert call("presets", "diff", "production", "mine").splitlines() == [
        "base_cfg    7.0 -> 5.0",
        "strength    0.5 -> 0.4",
        "refine_cfg  7.0 -> 5.0",
    ]
    rows = json.loads(call("presets", "diff", "mine", "production", "--json"))
    assert {"setting": "strength", "from": 0.4, "to": 0.5} in rows and len(rows) == 3
    assert call("presets", "diff", "mine", "mine") == "mine and mine have equal settings\n"


def test_history_and_rollback(two: None) -> None:
    (kept,) = json.loads(call("presets", "history", "production", "--json"))
    assert (kept["about"], kept["problem"]) == ("old", None) and Path(kept["path"]).is_file()
    assert call("presets", "history", "production") == f"{kept['stamp']}  old\n"
    assert call("presets", "history", "mine") == "no preset 'mine' was replaced yet\n"
    assert "strength  0.5 -> 0.3" in call("presets", "rollback", "production")
    undone = json.loads(call("presets", "rollback", "production", "--json"))
    assert undone["changes"] == [{"setting": "strength", "from": 0.3, "to": 0.5}] and undone["about"] == "new"
    assert load_preset("production").settings.strength == 0.5


def test_a_damaged_preset_is_rolled_back(two: None) -> None:
    path = presets_folder() / "production.json"
    path.write_text("{")
    assert "old" in call("presets", "rollback")
    damaged = call("presets", "history", "production")
    assert "not a preset file" in damaged and load_preset(path).settings.strength == 0.3
