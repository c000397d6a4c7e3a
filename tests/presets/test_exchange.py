"""Presets that move: from staging to production, under another name, to an address and back."""

import json
from pathlib import Path

import pytest

from workbench.errors import (
    AlreadyThere,
    BadPreset,
    NothingToPromote,
    PresetNotFound,
    StoreUnreachable,
    UnknownPlace,
    UsageError,
)
from workbench.presets import (
    SHIPPED,
    Preset,
    RunSample,
    copy_preset,
    history,
    list_aliases,
    list_presets,
    load_preset,
    make_alias,
    names_behind,
    preset_changes,
    presets_folder,
    pull_preset,
    push_preset,
    roll_back,
    verify_presets,
)
from workbench.settings import Settings

SAMPLE = RunSample(run="a-run", prompts=["x"], seeds=[1, 2])


def path(name: str) -> Path:
    return presets_folder() / f"{name}.json"


def put(name: str, seed: int = 1, *, won: bool = False) -> Preset:
    judged = SAMPLE if won else None
    return Preset(name, Settings(seed=seed), f"seed {seed}", {"mean": 1.0}).save(
        path(name), "promote" if won else "save", judged_on=judged
    )


# --- environments


def test_staging_that_has_won_a_duel_becomes_production_byte_for_byte(home: Path) -> None:
    put("production", 1)
    put("staging", 2, won=True)
    assert copy_preset("staging", why="two weeks").settings.seed == 2
    assert path("production").read_bytes() == path("staging").read_bytes()
    change = preset_changes("production")[0][-1]
    assert (change.kind, change.why, change.source, change.judged_on) == ("promote", "two weeks", "staging", SAMPLE)
    with pytest.raises(UsageError, match="'production' is 'staging' already"):
        copy_preset("staging")
    assert roll_back("production").settings.seed == 1 and verify_presets().problems == []


def test_what_has_won_no_duel_needs_a_reason(home: Path) -> None:
    """Neither what was saved by hand, nor what was altered after it had won."""
    put("production", 1)
    put("mine", 2)
    put("staging", 3, won=True)
    altered = json.loads(path("staging").read_text())
    for entry in ("checksum", "digest"):
        del altered[entry]
    path("staging").write_text(json.dumps({**altered, "settings": {"seed": 4}}))
    for source in ("mine", "staging", "embedded"):
        with pytest.raises(NothingToPromote, match=f"'{source}' has won no duel here"):
            copy_preset(source)
    assert load_preset("production").settings.seed == 1
    copy_preset("mine", force="the customer waits")
    change = preset_changes("production")[0][-1]
    assert (change.kind, change.why) == ("force", "the customer waits")
    assert copy_preset("mine", "other").name == "other" and preset_changes("other")[0][-1].kind == "save"
    with pytest.raises(UsageError, match="shipped preset"):
        copy_preset("mine", "embedded")


# --- aliases


def test_an_alias_means_what_its_target_becomes(home: Path) -> None:
    put("production", 1)
    make_alias("portrait-best", "production", "for the site")
    make_alias("site", "portrait-best")
    put("production", 2)
    found = load_preset("site")
    assert (found.name, found.settings.seed, found.via) == ("production", 2, ("site", "portrait-best"))
    assert names_behind("site") == ["site", "portrait-best", "production"]
    assert {alias.name: alias.target for alias in list_aliases()} == {
        "portrait-best": "production",
        "site": "portrait-best",
    }
    assert "site" not in [preset.name for preset in list_presets()]
    change = preset_changes("portrait-best")[0][-1]
    assert (change.kind, change.why, change.source) == ("alias", "for the site", "production")


def test_an_alias_that_is_moved_can_be_moved_back(home: Path) -> None:
    make_alias("best", "embedded")
    make_alias("best", "recommended")
    assert load_preset("best").name == "recommended"
    assert [(old.preset, old.alias_of) for old in history("best")] == [(None, "embedded")]
    assert roll_back("best").name == load_preset("best").name == "embedded"
    assert verify_presets().problems == []


def test_names_of_aliases_and_presets_do_not_meet(home: Path) -> None:
    put("mine")
    for name in ("mine", "embedded", "production", "staging"):
        with pytest.raises(UsageError, match=f"'{name}' is"):
            make_alias(name, "recommended")
    make_alias("best", "mine")
    with pytest.raises(UsageError, match="'best' is an alias of 'mine'"):
        copy_preset("embedded", "best")
    with pytest.raises(PresetNotFound):
        make_alias("other", "nowhere")


def test_an_alias_that_leads_nowhere_or_to_itself_is_named(home: Path) -> None:
    put("mine")
    make_alias("one", "mine")
    make_alias("two", "one")
    for target in ("one", "two"):
        with pytest.raises(BadPreset, match="would lead back to itself"):
            make_alias("one", target)
    alias = json.loads(path("one").read_text())
    path("one").write_text(json.dumps({"format": alias["format"], "version": 1, "target": "two"}))
    with pytest.raises(BadPreset, match=r"leads back to itself \(two -> one -> two\); point it elsewhere"):
        load_preset("two")
    assert names_behind("two") == ["two", "one"]
    for name in ("one", "mine"):
        path(name).unlink()
    with pytest.raises(BadPreset, match="'two' names the preset 'one', which there is not; point it elsewhere"):
        load_preset("two")
    path("two").write_text(json.dumps({**alias, "target": "../two"}))
    with pytest.raises(BadPreset, match="altered"):
        load_preset("two")
    path("two").write_text(json.dumps({"format": alias["format"], "version": 1, "target": "../two"}))
    with pytest.raises(BadPreset, match="alias with a wrong entry"):
        load_preset("two")


# --- addresses


@pytest.mark.parametrize(
    "url", ["memory://presets-{n}", "memory://presets-{n}/theirs.json", "{folder}", "{folder}/theirs.json"]
)
def test_pushed_and_pulled_byte_for_byte(home: Path, tmp_path: Path, url: str) -> None:
    url = url.format(n=id(url), folder=tmp_path / "shared")
    put("mine", 5, won=True)
    to = push_preset("mine", url)
    assert str(push_preset("mine", url)) == str(to)  # the same again is no other file
    whole = url if url.endswith(".json") else f"{url}/mine.json"
    assert str(to) == whole
    pulled = pull_preset(whole, "theirs")
    assert (pulled.name, pulled.settings.seed) == ("theirs", 5) and path("theirs").read_bytes() == path(
        "mine"
    ).read_bytes()
    change = preset_changes("theirs")[0][-1]
    assert (change.kind, change.source) == ("pull", whole) and verify_presets().problems == []
    assert pull_preset(whole, "theirs").name == "theirs" and len(preset_changes("theirs")[0]) == 1
    with pytest.raises(NothingToPromote):  # that it won somewhere, nobody here has seen
        path("mine").unlink()
        (presets_folder() / "changes.jsonl").unlink()
        copy_preset("theirs")


def test_nothing_of_yours_is_replaced_without_a_reason(home: Path, tmp_path: Path) -> None:
    put("mine", 1)
    push_preset("mine", str(tmp_path))
    put("mine", 2)
    with pytest.raises(AlreadyThere, match=r"mine\.json is there already, and is another file"):
        push_preset("mine", str(tmp_path))
    with pytest.raises(AlreadyThere, match="there is a preset 'mine' already"):
        pull_preset(str(tmp_path / "mine.json"))
    for name in ("production", "staging"):
        with pytest.raises(UsageError, match=f"'{name}' is written by a promotion"):
            pull_preset(str(tmp_path / "mine.json"), name)
    assert load_preset("mine").settings.seed == 2
    assert pull_preset(str(tmp_path / "mine.json"), "production", force="moved").settings.seed == 1
    assert preset_changes("production")[0][-1].why == "moved"
    assert pull_preset(str(tmp_path / "mine.json"), force="it was better").settings.seed == 1
    assert [old.preset and old.preset.settings.seed for old in history("mine")] == [2, 1]


def test_what_is_no_whole_preset_is_not_taken_over(home: Path, tmp_path: Path) -> None:
    put("mine")
    push_preset("mine", str(tmp_path))
    there = tmp_path / "mine.json"
    good = json.loads(there.read_text())
    for wrong, said in (
        ({**good, "about": "better"}, "altered after it was written"),
        ({k: v for k, v in good.items() if k != "checksum"}, "evidence but no checksum"),
        ([], "not a preset file"),
        ({"format": "workbench-alias", "version": 1, "target": "mine"}, "not a preset file"),
    ):
        there.write_text(json.dumps(wrong))
        with pytest.raises(BadPreset, match=said) as caught:
            pull_preset(str(there), "other")
        assert str(there) in str(caught.value) and not path("other").exists()
    with pytest.raises(PresetNotFound, match=r"there is no .*gone\.json"):
        pull_preset(str(tmp_path / "gone.json"))
    with pytest.raises(PresetNotFound):
        pull_preset("memory://nowhere/gone.json")
    with pytest.raises(UsageError, match="names no preset file"):
        pull_preset(str(tmp_path))
    there.write_bytes(b" " * 5_000_000)
    with pytest.raises(BadPreset, match="5,000,000 bytes"):
        pull_preset(str(there))


def test_no_credentials_are_said_or_logged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("mine")
    with pytest.raises(UnknownPlace) as caught:
        push_preset("mine", "nosuch://anna:secret@host/folder?sig=hidden")
    assert (
        "secret" not in str(caught.value) and "hidden" not in str(caught.value) and "host/folder" in str(caught.value)
    )
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(self: object, at: str, *_: object, **__: object) -> None:
        raise PermissionError(f"403 of memory://anna:secret@{at} with sig=hidden")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "cat_file", refuse)
        with pytest.raises(StoreUnreachable) as refused:
            pull_preset("memory://anna:secret@host/mine.json?sig=hidden")
    assert "secret" not in str(refused.value) and "memory://host" in str(refused.value)
    push_preset("mine", "memory://anna:secret@host/mine.json")
    pull_preset("memory://anna:secret@host/mine.json", "theirs")
    assert preset_changes("theirs")[0][-1].source == "memory://host/mine.json"


def test_a_shipped_preset_is_pushed_too(home: Path, tmp_path: Path) -> None:
    push_preset("embedded", str(tmp_path))
    assert (tmp_path / "embedded.json").read_bytes() == (SHIPPED / "embedded.json").read_bytes()
    assert pull_preset(str(tmp_path / "embedded.json"), "own").settings == load_preset("embedded").settings
