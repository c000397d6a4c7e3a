"""The one door to production, from Python and from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import known_run, met

from workbench.cli.commands import app
from workbench.cli.terminal import run as run_command
from workbench.errors import NoChallenge, NothingToPromote, NotPromoted, UsageError
from workbench.presets import Preset, RunSample, load_preset, preset_changes, presets_folder
from workbench.promotion import candidate, promote
from workbench.promotion.duel import is_challenge
from workbench.promotion.judging import verdict
from workbench.runs import Run

EMBEDDED = load_preset("embedded").settings


def swept(**more: Any) -> Run:
    """Weight 1 is the sharpest, of three."""
    base = EMBEDDED.model_dump(exclude={"prompt", "seed", "weight"})

    def tell(s: dict[str, Any]) -> tuple[str, float]:
        return str(s), 50 + 5 * s["weight"]

    run = known_run({"weight": [0.2, 0.6, 1.0]}, tell, **more)
    for record in run.records():
        run.append("cell", {**record, "settings": {**record["settings"], **base}})
    return run


@pytest.fixture
def duels(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the challenger of the next duel is sharper by, in place of its pictures, and the specs that were run."""
    outcome: dict[str, Any] = {"by": 5.0, "specs": []}

    def sweep(spec: Any, *, quiet: bool) -> Run:
        from types import SimpleNamespace

        outcome["specs"].append(spec)
        return met(SimpleNamespace(spec=spec), by=outcome["by"])

    monkeypatch.setattr("workbench.promotion.door.sweep", sweep)
    return outcome


def test_the_winner_is_written_if_it_beats_the_champion_on_new_seeds(home: Path, duels: dict[str, Any]) -> None:
    run = swept()
    preset = promote(run, note="why not")
    assert load_preset("production") == preset and preset.settings.weight == 1.0
    assert preset.evidence["verdict"]["champion"] == "preset embedded" and preset.evidence["note"] == "why not"
    assert preset.evidence["used"][-1]["seeds"] == [2, 3, 4, 5, 6, 7, 8, 9]  # 0 and 1 chose it
    assert [change.kind for change in preset_changes()[0]] == ["promote"]


@pytest.mark.parametrize(("by", "word"), [(0.0, "As good"), (-5.0, "Worse")])
def test_who_does_not_is_not(home: Path, duels: dict[str, Any], by: float, word: str) -> None:
    duels["by"] = by
    with pytest.raises(NotPromoted, match=f"not promoted. {word}") as refused:
        promote(swept())
    assert refused.value.exit_code == 3 and refused.value.verdict["decision"] == word.lower().replace(" ", "_")
    assert not (presets_folder() / "production.json").exists()


def test_as_good_is_enough_where_it_is_said(home: Path, duels: dict[str, Any]) -> None:
    duels["by"] = 0.0
    assert promote(swept(), as_good=True).evidence["verdict"]["decision"] == "as_good"


def test_without_a_duel_by_force_and_it_is_recorded(home: Path, duels: dict[str, Any]) -> None:
    preset = promote(swept(), force="seen by eye")
    assert preset.evidence["forced"] == "seen by eye" and "Without a duel: seen by eye." in preset.about
    assert duels["specs"] == [] and [change.kind for change in preset_changes()[0]] == ["force"]
    assert "not tested on held-out ones" in preset.evidence["caveat"]


@pytest.mark.parametrize("more", [{"force": "  "}, {"force": "x", "seeds": 4}, {"force": "x", "as_good": True}])
def test_force_stands_alone(home: Path, duels: dict[str, Any], more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="force"):
        promote(swept(), **more)
    assert duels["specs"] == [] and not (presets_folder() / "production.json").exists()


def test_who_is_to_be_beaten_is_who_is_there(home: Path, duels: dict[str, Any]) -> None:
    Preset("production", EMBEDDED.replace(weight=0.4)).save(presets_folder() / "production.json")
    with pytest.raises(UsageError, match="the champion is 'production' itself"):
        promote(swept(), against="embedded")
    with pytest.raises(UsageError, match="say who is to be beaten"):
        candidate(EMBEDDED.replace(weight=0.9), name="mine")


def test_a_duel_is_not_forced(home: Path, duels: dict[str, Any]) -> None:
    """Its winner may be the champion."""
    wanted = candidate(swept())
    with pytest.raises(UsageError, match="force skips the duel"):
        promote(met(wanted.challenge, by=-5.0), force="x")


def test_a_margin_chosen_afterwards_promotes_nothing(home: Path, duels: dict[str, Any]) -> None:
    wanted = candidate(swept())
    verdict(met(wanted.challenge, by=-1.0), wanted.challenge)
    found = verdict(met(wanted.challenge, by=0.0), wanted.challenge, margin=50)
    with pytest.raises(NotPromoted, match="as good is within 2 points here, not 50"):
        found.promote(as_good=True)


def test_what_is_there_already_meets_nobody(home: Path, duels: dict[str, Any]) -> None:
    promote(swept())
    with pytest.raises(NoChallenge, match="equal settings"):
        promote(swept())


def test_shipped_names_are_taken(home: Path, duels: dict[str, Any]) -> None:
    ways: list[dict[str, Any]] = [{}, {"force": "because"}]
    for how in ways:
        with pytest.raises(UsageError, match="'embedded' is a shipped preset and cannot be overwritten"):
            promote(swept(), name="embedded", **how)
    assert not (presets_folder() / "embedded.json").exists() and duels["specs"] == []


def test_a_cell_that_a_person_chose(home: Path, duels: dict[str, Any]) -> None:
    run = swept()
    assert promote(run, cell=0).settings.weight == 0.2
    assert run.id in {used["run"] for used in load_preset("production").evidence["used"]}
    with pytest.raises(NothingToPromote, match="has not been made"):
        promote(run, cell=99)


def test_the_run_of_a_duel_is_judged_as_it_is(home: Path, duels: dict[str, Any]) -> None:
    wanted = candidate(swept())
    run = met(wanted.challenge)
    assert is_challenge(run) and verdict(run, wanted.challenge).decision == "better"
    assert promote(run).settings.weight == 1.0 and duels["specs"] == []


def test_settings_found_elsewhere_are_met_on_seeds_that_they_were_not_seen_on(home: Path) -> None:
    tried = RunSample(run="tuner session x", prompts=["p"], seeds=[1, 2])
    wanted = candidate(EMBEDDED.replace(weight=0.9), against="embedded", chosen_on=tried, seeds=2)
    assert wanted.challenge.spec.seeds == [3, 4] and wanted.challenge.meeting.chosen_on == tried
    found, preset = wanted.settle(met(wanted.challenge, by=-5.0))
    assert found.decision == "worse" and preset is None
    wanted = candidate(EMBEDDED.replace(weight=0.9), against="embedded", chosen_on=tried)
    assert wanted.settle(met(wanted.challenge))[1] == load_preset("production")


# --- on the command line


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """(exit status, stdout, stderr) of a command in this process."""

    def command(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["workbench", *words])
        capsys.readouterr()
        try:
            run_command(app)
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def test_promote_says_the_cost_first_and_then_what_came_out(home: Path, duels: dict[str, Any], typed: Command) -> None:
    run = swept()
    status, out, _ = typed("promote", run.id, "--plan", "--json")
    about = json.loads(out)
    assert status == 0 and duels["specs"] == [] and not (presets_folder() / "production.json").exists()
    assert (about["champion"], about["seeds"], about["held_out"]) == ("preset embedded", [*range(2, 10)], True)
    assert about["plan"]["cells"] == 32 and about["differs"] == [
        {"setting": "weight", "champion": 0.6, "challenger": 1.0}
    ]
    status, out, _ = typed("promote", run.id, "--quiet")
    assert status == 0 and "32 cells" in out and "Better: " in out and "production  " in out
    assert out.index("32 cells") < out.index("Better: ")


def test_promote_ends_with_3_where_it_did_not(home: Path, duels: dict[str, Any], typed: Command) -> None:
    duels["by"] = -5.0
    status, out, err = typed("promote", swept().id, "--json")
    said = json.loads(out)
    assert (status, said["promoted"], said["verdict"]["decision"]) == (3, False, "worse")
    assert "the challenger is not promoted. Worse: " in err
    specs = len(duels["specs"])
    status, out, err = typed("promote", said["verdict"]["run"], "--json")  # the duel, which lost: the same
    assert (status, json.loads(out)["promoted"], len(duels["specs"])) == (3, False, specs)
    status, _, err = typed("promote", said["verdict"]["run"], "--seeds", "16")
    assert status == 2 and "is a duel, which has its two settings, prompts and seeds" in err
    status, out, err = typed("promote", "latest", "--json", "--seeds", "9")  # the sweep again, with more seeds
    assert status == 3 and len(duels["specs"]) == specs + 1 and json.loads(out)["verdict"]["found"]["looks"] == 2


def test_promote_as_json(home: Path, duels: dict[str, Any], typed: Command) -> None:
    status, out, _ = typed("promote", swept().id, "--json")
    said = json.loads(out)
    assert (status, said["promoted"], said["name"], said["verdict"]["decision"]) == (0, True, "production", "better")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--force", " "), 2, "--force needs a reason"),
        (("--force", "x", "--plan"), 2, "leave it out"),
        (("--name", "embedded"), 2, "shipped preset"),
        (("--seeds", "0"), 2, "--seeds"),
    ],
)
def test_what_promote_refuses(
    home: Path, duels: dict[str, Any], typed: Command, words: tuple[str, ...], status: int, said: str
) -> None:
    ended, _, err = typed("promote", swept().id, *words)
    assert ended == status and said in err and duels["specs"] == []


def test_challenge_and_verdict(home: Path, typed: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(
        "workbench.sweeps.sweep", lambda spec, quiet: met(SimpleNamespace(spec=spec), by=5.0), raising=False
    )
    Preset("production", EMBEDDED.replace(weight=0.4)).save(presets_folder() / "production.json")
    status, out, _ = typed("challenge", "weight=0.9, strength=0.3", "--seeds", "4", "--plan", "--json")
    about = json.loads(out)
    assert (status, about["champion"], about["plan"]["cells"]) == (0, "preset production", 16)
    status, out, _ = typed("challenge", "weight=0.9, strength=0.3", "--seeds", "4", "--json", "--quiet")
    found = json.loads(out)
    assert (status, found["decision"], found["found"]["scope"]) == (0, "better", "these prompts")
    assert not is_promoted("weight", 0.9)
    status, out, _ = typed("verdict", found["run"], "--json")
    assert (status, json.loads(out)["words"]) == (0, found["words"])
    status, out, _ = typed("verdict", found["run"], "--margin", "0")
    assert status == 2
    status, out, _ = typed("verdict", found["run"])
    assert status == 0 and out.startswith(
        "Better: the champion with weight 0.9, strength 0.3 is sharper than preset production"
    )
    status, out, err = typed("challenge", "weight=0.4")
    assert status == 2 and "equal settings" in err


def is_promoted(name: str, value: object) -> bool:
    return getattr(load_preset("production").settings, name) == value


def test_a_setting_that_does_not_exist_is_named(home: Path, typed: Command) -> None:
    status, _, err = typed("challenge", "wieght=0.9", "--against", "embedded")
    assert status == 2 and "did you mean 'weight'" in err
