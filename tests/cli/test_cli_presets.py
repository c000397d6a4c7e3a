import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli import commands as cli
from workbench.presets import Preset, load_preset, presets_folder
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
    assert kept["replaced"]["kind"] == "save" and kept["replaced"]["kept"] == kept["stamp"]
    (line,) = call("presets", "history", "production").splitlines()
    assert re.fullmatch(re.escape(kept["stamp"]) + r"  old  \(replaced 20..-..-.. ..:.. UTC, save, by .+@.+\)", line)
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


def test_one_damaged_file_does_not_hide_the_others(two: None) -> None:
    """One preset file that could not be read emptied the list."""
    bad = presets_folder() / "win.json"
    for shape in (b"", b"null", b"[" * 100_000, b'{"about": "\\ud83d"}'):
        bad.write_bytes(shape)
        done = CliRunner().invoke(cli.app, ["presets", "list"])
        assert done.exit_code == 0
        assert [line.split()[0] for line in done.stdout.splitlines()] == [
            "production",
            "embedded",
            "face-detailer",
            "few-step",
            "hires-768",
            "recommended",
            "same-checkpoint",
        ]
        assert done.stderr.startswith(f"workbench: {bad} is not a preset file") and done.stderr.count("\n") == 1
        rows = {row["name"]: row for row in json.loads(call("presets", "list", "--json"))}
        assert len(rows) == 8 and rows["production"]["problem"] is None
        assert str(bad) in rows["win"]["problem"] and rows["win"]["path"] == str(bad)
    bad.write_bytes(b"\xef\xbb\xbf" + (presets_folder() / "production.json").read_bytes())
    assert call("presets", "list").splitlines()[1].split() == ["win", "new"]


def test_evidence_that_was_written_by_hand_is_shown(home: Path) -> None:
    Preset("mine", Settings(), "about", {"seen": "often"}).save(presets_folder() / "mine.json")
    assert call("presets", "show", "mine").splitlines()[1] == "about"


def test_a_damaged_log_is_named_beside_the_history(two: None) -> None:
    log = presets_folder() / "changes.jsonl"
    log.write_text("null\n" + log.read_text())
    (presets_folder() / ".pending").write_text("{}")
    done = CliRunner().invoke(cli.app, ["presets", "history", "production"])
    assert done.exit_code == 0 and "old" in done.stdout
    first, second = done.stderr.splitlines()
    assert first.startswith(f"workbench: line 1 of {log} is no record") and ".pending" in second
    rows = json.loads(call("presets", "history", "production", "--json"))
    assert [bool(row["problem"]) for row in rows] == [False, True, True] and rows[0]["about"] == "old"
