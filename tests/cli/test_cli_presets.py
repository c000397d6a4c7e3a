import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from workbench.cli import commands as cli
from workbench.errors import NothingToPromote, PresetNotFound, UsageError
from workbench.presets import Preset, load_preset, presets_folder
from workbench.recipe import UsedModel
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


def test_a_list_says_who_wrote_what_and_shows_aliases_beside_what_is_damaged(two: None) -> None:
    call("presets", "alias", "best", "production", "--note", "for the site")
    (presets_folder() / "broken.json").write_text("{")
    done = CliRunner().invoke(cli.app, ["presets", "list"])
    first, *_, last = done.stdout.splitlines()
    assert re.fullmatch(r"production +new  \(20..-..-.. ..:.. UTC, save, by .+@.+\)", first)
    assert re.fullmatch(r"best +alias of production  \(.+ UTC, alias, by .+: for the site\)", last)
    assert "broken.json is not a preset file" in done.stderr
    rows = {row["name"]: row for row in json.loads(call("presets", "list", "--json"))}
    assert rows["best"]["alias_of"] == "production" and rows["production"]["changed"]["kind"] == "save"
    assert rows["broken"]["problem"] and rows["embedded"]["changed"] is None
    assert json.loads(call("presets", "show", "best", "--json"))["aliases"] == ["best"]


def test_show_says_that_the_files_name_counts_and_what_the_weights_are(two: None) -> None:
    other = UsedModel(name="embedded", digest="0" * 64)
    preset = Preset("inside", Settings(model="embedded"), models={"model": other}).save(presets_folder() / "mine.json")
    assert preset.name == "mine"
    path = presets_folder() / "copy.json"
    path.write_bytes((presets_folder() / "mine.json").read_bytes())
    done = CliRunner().invoke(cli.app, ["presets", "show", "copy"])
    assert f"settings {preset.digest}" in done.stdout and f"model: embedded  {'0' * 64}" in done.stdout
    first, second = done.stderr.splitlines()
    assert "its file calls it 'mine'; the name of the file counts, copy" in first
    assert "model 'embedded' is another one here" in second


def test_verify_and_its_exit_status(two: None) -> None:
    assert call("presets", "verify").startswith("2 changes, chain intact; the last line is ")
    log = presets_folder() / "changes.jsonl"
    log.write_text(log.read_text().replace('"save"', '"promote"', 1))
    done = CliRunner().invoke(cli.app, ["presets", "verify", "production"])
    assert done.exit_code == 1 and "2 changes, chain broken" in done.stdout
    assert done.stderr.startswith(f"workbench: line 2 of {log} does not follow what stands before it")
    done = CliRunner().invoke(cli.app, ["presets", "verify", "--json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["intact"] is False


def test_the_schema_is_printed(home: Path) -> None:
    assert json.loads(call("presets", "schema"))["$schema"].endswith("2020-12/schema")


def test_environments_and_addresses(two: None, tmp_path: Path) -> None:
    Preset("staging", Settings(strength=0.4), "stage").save(presets_folder() / "staging.json")
    refused = CliRunner().invoke(cli.app, ["presets", "promote", "staging"])
    assert isinstance(refused.exception, NothingToPromote)
    for empty in ("", " "):
        refused = CliRunner().invoke(cli.app, ["presets", "promote", "staging", "--force", empty])
        assert isinstance(refused.exception, UsageError) and "needs a reason" in str(refused.exception)
    assert "strength  0.5 -> 0.4" in call("presets", "promote", "staging", "production", "--force", "a test")
    assert ", force, by " in call("presets", "history", "production").splitlines()[0]
    assert call("presets", "push", "staging", str(tmp_path)) == f"staging is at {tmp_path}/staging.json\n"
    about = json.loads(call("presets", "pull", f"{tmp_path}/staging.json", "--name", "theirs", "--json"))
    assert about["name"] == "theirs" and load_preset("theirs").settings.strength == 0.4
    assert "note" not in call("presets", "rollback", "--note", "back") and "back)" in call(
        "presets", "history", "production"
    )


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


def test_a_push_names_the_path_of_a_second_lora(home: Path, tmp_path: Path) -> None:
    Preset("mine", Settings(loras="soft:0.5, /somewhere/skin.safetensors:1"), "x").save(presets_folder() / "mine.json")
    done = CliRunner().invoke(cli.app, ["presets", "push", "mine", str(tmp_path)])
    assert done.exit_code == 0 and "loras is a path of this machine" in done.stderr


def test_verify_of_a_name_that_nothing_is_known_of(two: None) -> None:
    refused = CliRunner().invoke(cli.app, ["presets", "verify", "prodction"])
    assert isinstance(refused.exception, PresetNotFound)
