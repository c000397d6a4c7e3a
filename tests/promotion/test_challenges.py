"""Who meets whom, and on which seeds."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.kills import killed_at
from support.runs import SCORES, known_run, met

from workbench.errors import BadLedger, NoChallenge, NothingToPromote, NotPromoted, SettingsError, UsageError
from workbench.evidence import decide
from workbench.presets import Preset, RunSample, load_preset, preset_changes, presets_folder
from workbench.promotion.duel import challenge, champion_of, is_challenge, latest_sweep, stand_ins
from workbench.promotion.judging import verdict
from workbench.promotion.ledger import LEDGER, looks
from workbench.promotion.promoting import run_sample, write_promoted
from workbench.promotion.prompts import usual_prompts
from workbench.runs import Run, list_runs, open_run
from workbench.settings import Settings
from workbench.sweeps.planning import plan
from workbench.sweeps.session import sweep
from workbench.sweeps.spec import write_out

EMBEDDED = load_preset("embedded").settings


def swept(best: float = 1.0, *, name: str = "t", model: str = "embedded", seeds: tuple[int, ...] = (0, 1)) -> Run:
    """A finished run over two weights, in which `best` is the sharper one."""
    spec = {
        "base": {"model": model}, "prompts": ["p", "q"], "seeds": [*seeds], "axes": {"weight": [0.0, best]},
        "preset": "embedded", "strategy": "grid", "budget": None, "name": name,
    }  # fmt: skip
    run = open_run(name, spec, f"{abs(hash((name, best, model, seeds))):016x}", 4 * len(seeds))
    cell = 0
    for prompt in ("p", "q"):
        for seed in seeds:
            for weight in (0.0, best):
                settings = EMBEDDED.replace(prompt=prompt, seed=seed, weight=weight, model=model)
                record: dict[str, Any] = {
                    "cell": cell, "keys": {}, "reason": None, "settings": settings.model_dump(), "status": "done",
                    "scores": SCORES | {"sharpness": 50.0 + 10 * (weight == best) + seed}, "key": f"k{cell}",
                    "pixels_sha256": f"{run.id}{cell}", "picture": "x", "seconds": 1.0,
                }  # fmt: skip
                run.append("cell", record)
                cell += 1
    return run


def test_one_sweep_whose_only_axis_is_what_differs(home: Path) -> None:
    duel = challenge(EMBEDDED, EMBEDDED.replace(strength=0.5, weight=0.9, prompt="other", seed=77), seeds=3)
    assert duel.differs == {"strength": (0.35, 0.5), "weight": (0.6, 0.9)}
    grid = write_out(duel.spec)
    assert grid.axes == {"strength+weight": [[0.35, 0.6], [0.5, 0.9]]}
    first, second = grid.cells()[:2]
    assert first == EMBEDDED.replace(seed=first.seed)
    assert second == EMBEDDED.replace(seed=first.seed, strength=0.5, weight=0.9)


def test_the_seeds_are_held_out(home: Path) -> None:
    run = swept(seeds=(0, 1, 3))
    duel = challenge("embedded", run, seeds=3)
    assert duel.spec.seeds == [2, 4, 5] and duel.held_out
    assert duel.notes == ("Seeds 2, 4 and 5 are new to both.",)
    assert "prompts are not new" in challenge("embedded", run, prompts=["p", "q"]).notes[1]
    # a longer one begins with the pictures of the shorter one
    assert challenge("embedded", run, seeds=5).spec.seeds == [2, 4, 5, 6, 7]
    mine = challenge("embedded", run, seeds=[1, 2], prompts=["new"])
    assert not mine.held_out
    assert mine.notes == ("Seed 1 was used to choose one of the two and flatters it.",)


def test_what_the_champion_was_chosen_on_counts_too(home: Path) -> None:
    write_promoted(swept(0.8, name="old", seeds=(0, 1, 2)))
    duel = challenge("production", swept(1.0, name="new", seeds=(3, 4)), seeds=2)
    assert duel.spec.seeds == [5, 6]
    assert duel.differs == {"weight": (0.8, 1.0)}
    # the seed of a preset that was written by hand was looked at, too
    Preset("mine", EMBEDDED.replace(weight=0.1, seed=5)).save(presets_folder() / "mine.json")
    assert challenge("mine", "latest", seeds=2).spec.seeds == [6, 7]


def test_what_judged_one_challenger_is_no_test_of_the_next(home: Path) -> None:
    """The next one may have been made after seeing it. The same one goes on with its own seeds, and gets more."""
    first = challenge("embedded", "weight=0.9", seeds=4)
    assert first.spec.seeds == [1, 2, 3, 4]  # 0 is the preset's own
    assert verdict(met(first), first).decision == "better"
    assert challenge("embedded", "weight=0.9", seeds=6).spec.seeds == [1, 2, 3, 4, 5, 6]
    assert challenge("embedded", "weight=0.8", seeds=2).spec.seeds == [5, 6]
    assert not challenge("embedded", "weight=0.8", seeds=[4, 5]).held_out


def test_pairs_that_were_seen_are_not_chosen_from(home: Path) -> None:
    """The 8 best of 32 seeds were "new to both", and better. A later look has all pairs of the one before, or other ones."""
    first = challenge("embedded", "weight=0.9", seeds=4)
    verdict(met(first), first)
    assert not challenge("embedded", "weight=0.9", seeds=[2, 4]).held_out
    assert challenge("embedded", "weight=0.9", seeds=[1, 2, 3, 4, 9]).held_out
    assert challenge("embedded", "weight=0.9", seeds=2).spec.seeds == [5, 6]  # fewer: new ones
    other = challenge("embedded", "weight=0.9", seeds=4, prompts=["another"])
    assert other.spec.seeds == [5, 6, 7, 8]
    found = verdict(met(other), other).found
    assert found and (found.looks, found.challengers) == (1, 2)  # and it spends as much as another challenger
    both = challenge("embedded", "weight=0.9", seeds=6, prompts=["another"])
    assert both.spec.seeds == [5, 6, 7, 8, 9, 10]
    found = verdict(met(both), both).found
    assert found and (found.looks, found.challengers) == (2, 2)


def test_settings_that_a_sweep_has_tried_do_not_meet_on_its_seeds(home: Path) -> None:
    """Named by its run the winner met on new seeds, typed in by its values on the very ones that chose it."""
    run = swept(seeds=(1, 2))
    for changes in ("weight=1.0", "weight=0.0"):
        assert challenge("embedded", changes, seeds=2).spec.seeds == [3, 4]
        assert run.id in {sample.run for sample in challenge("embedded", changes).meeting.used}
    assert challenge("embedded", "weight=0.5", seeds=2).spec.seeds == [1, 2]
    assert not challenge("embedded", "weight=1.0", seeds=[2, 3]).held_out


def test_a_sweep_of_two_values_is_no_duel(home: Path) -> None:
    """Read as one, it made its own seeds new."""
    run = known_run({"weight": [0.6, 1.0]}, lambda s: (str(s), 50 + 5 * s["weight"]), seeds=3)
    found = verdict(run)
    assert found.found and looks() == [] and "not known" in found.caveat
    with pytest.raises(NotPromoted, match="chose neither of the two"):
        verdict(
            known_run({"weight": [0.6, 1.0]}, lambda s: (str(s), 50 + (5 + s["seed"] / 9) * s["weight"]), seeds=8)
        ).promote()


def test_a_duel_that_was_looked_into_and_left_is_a_look(home: Path) -> None:
    long = challenge("embedded", "weight=0.9", seeds=8)
    left = met(long)
    kept = [line for line in left.journal.read_text().splitlines() if json.loads(line).get("cell", 0) < 20]
    left.journal.write_text("".join(f"{line}\n" for line in kept))
    about = json.loads((left.path / "run.json").read_text())
    (left.path / "run.json").write_text(json.dumps({**about, "created": "2026-01-01T00:00:00+00:00"}))
    part = verdict(left, long)
    assert (part.decision, part.wins, part.differences) == ("not made", 0, ())  # nor is it shown who leads
    short = challenge("embedded", "weight=0.9", seeds=4)
    found = verdict(met(short), short).found
    assert found and (found.looks, found.challengers) == (2, 1)


@pytest.mark.parametrize("damage", ["garbage\n", '{"a": 1}\n', "[]\n"])
def test_a_damaged_ledger_forgets_nothing_in_silence(home: Path, damage: str) -> None:
    duel = challenge("embedded", "weight=0.9", seeds=4)
    verdict(met(duel), duel)
    path = presets_folder() / LEDGER
    path.write_text(path.read_text() + damage)
    with pytest.raises(BadLedger, match="line 2 of"):
        challenge("embedded", "weight=0.8")
    path.write_text(path.read_text().splitlines()[0] + '\n{"at": "2026-')  # cut short by a crash
    assert challenge("embedded", "weight=0.8", seeds=1).spec.seeds == [5]
    path.unlink()
    path.mkdir()
    with pytest.raises(BadLedger, match="cannot be read"):
        challenge("embedded", "weight=0.8")


def test_a_duel_that_was_lost_is_in_the_evidence_of_what_wins_later(home: Path) -> None:
    lost = challenge("embedded", "weight=0.3", seeds=4)
    verdict(met(lost, by=-5.0), lost)
    won = challenge("embedded", "weight=0.9", seeds=4)
    preset = verdict(met(won), won).promote()
    assert {run for run in (entry["run"] for entry in preset.evidence["used"]) if "challenge" in run} == {
        run.id for run in list_runs()
    }


@pytest.mark.parametrize("seeds", [[], [True], [1.5], True, 0])
def test_what_are_no_seeds(home: Path, seeds: Any) -> None:
    with pytest.raises(NoChallenge, match="seeds = "):
        challenge("embedded", "weight=0.9", seeds=seeds)


def test_after_a_promotion_nothing_is_forgotten(home: Path) -> None:
    """What the sweep was chosen on was called new after one promotion: the evidence named the duel only."""
    run = swept(seeds=(7, 8))
    duel = challenge("embedded", run, seeds=3)
    sample = run_sample(met(duel))
    preset = verdict(sample.run, duel).promote()
    assert preset.settings.weight == 1.0
    used = [RunSample.model_validate(entry) for entry in preset.evidence["used"]]
    sources = ["preset embedded", run.id, sample.run]
    assert sorted((each.run, each.seeds) for each in used) == sorted(
        zip(sources, ([0], [7, 8], [1, 2, 3]), strict=True)
    )
    assert challenge("production", "weight=0.3", seeds=6).spec.seeds == [4, 5, 6, 9, 10, 11]
    # on another machine, where there is neither ledger nor log, the evidence knows it
    for name in ("judged.jsonl", "changes.jsonl"):
        (presets_folder() / name).unlink()
    assert challenge("production", "weight=0.3", seeds=6).spec.seeds == [4, 5, 6, 9, 10, 11]
    again = run_sample(met(challenge("production", "weight=0.3", seeds=4)))
    verdict(again.run, challenge("production", "weight=0.3", seeds=4)).promote()
    assert {entry["run"] for entry in load_preset("production").evidence["used"]} == {*sources, again.run}


def test_before_anything_was_promoted_the_champion_is_what_the_sweep_started_from(home: Path) -> None:
    run = swept()
    assert challenge(challenger=run).champion == challenge("production", "latest").champion == "preset embedded"
    Preset("production", EMBEDDED.replace(weight=0.1)).save(presets_folder() / "production.json")
    assert challenge(challenger=run).champion == "preset production"
    assert champion_of("other", run) == "embedded" and champion_of("other", run, "hires-768") == "hires-768"
    with pytest.raises(UsageError, match=r"'gone', which .* started from, is gone"):
        champion_of("other", run, "gone")


def test_the_prompts_are_the_models_portraits(home: Path) -> None:
    assert challenge("embedded", "weight=0.9").spec.prompts == usual_prompts(EMBEDDED)
    portraits = challenge("recommended", "weight=0.9").spec.prompts
    assert portraits and len(set(portraits)) == 24 and decide_scope(len(portraits)) == "prompts like these"


def decide_scope(prompts: int) -> str:
    pairs = pd.DataFrame({"prompt": range(prompts), "seed": 0, "champion": 0.0, "challenger": range(prompts)})
    return decide(pairs).scope


def test_names_presets_runs_and_changes(home: Path) -> None:
    run = swept()
    assert challenge("embedded", "latest").challenger == f"the winner of {run.id}"
    assert challenge("embedded", run.id).differs == challenge("embedded", run).differs == {"weight": (0.6, 1.0)}
    changed = challenge("embedded", "weight = 0.9, cfg=4")
    assert changed.differs == {"base_cfg": (7.0, 4.0), "refine_cfg": (3.0, 4.0), "weight": (0.6, 0.9)}
    assert changed.challenger == "the champion with weight 0.9, cfg 4"
    assert challenge(load_preset("embedded"), "hires-768", seeds=[1]).differs["model"] == ("embedded", "sdxl")


@pytest.mark.parametrize(
    ("champion", "challenger", "said"),
    [
        ("embedded", "weight=0.6", "have equal settings"),
        ("embedded", "latest", "no sweep of model embedded yet"),
        ("production", "weight=1.0", "promote a sweep first"),
        ("embedded", "recomended", "did you mean 'recommended'?; nor is there a run 'recomended': there is none yet"),
        ("embedded", "weight=1.0, strength", "'strength' is not setting=value"),
    ],
)
def test_no_challenge(home: Path, champion: str, challenger: str, said: str) -> None:
    with pytest.raises(NoChallenge) as refused:
        challenge(champion, challenger)
    assert said in str(refused.value)


def test_what_cannot_be_run_is_refused_by_its_own_sentence(home: Path) -> None:
    with pytest.raises(SettingsError, match="weight = 7"):
        challenge("embedded", "weight=7.0")
    with pytest.raises(SettingsError, match="did you mean 'weight'"):
        challenge("embedded", "wieght=0.7")
    with pytest.raises(NoChallenge, match="seeds = 0"):
        challenge("embedded", "weight=1.0", seeds=0)
    run = swept()
    for record in run.records():
        run.append("cell", {**record, "scores": SCORES | {"sharpness": 1.0, "flags": ["noisy"]}})
    with pytest.raises(NothingToPromote, match="a guard fired on every setting"):
        challenge("embedded", run)


def test_the_latest_sweep_is_no_challenge_and_of_the_champions_model(home: Path) -> None:
    run = swept()
    other = swept(name="other", model="sdxl")
    assert latest_sweep() == other and latest_sweep("embedded") == run and latest_sweep("none") is None
    duel = swept(name=challenge("embedded", run).spec.name)
    assert is_challenge(duel) and not is_challenge(run)
    assert challenge("embedded", "latest").challenger == f"the winner of {run.id}"


def test_stand_ins(home: Path) -> None:
    champion, challenger, said = stand_ins("production", "latest")
    assert (champion, challenger) == ("embedded", "weight=1.0") and len(said) == 2
    challenge(champion, challenger)
    run = swept()
    assert stand_ins("production", "latest")[:2] == ("embedded", "latest")
    write_promoted(run)  # as 02_sweep does: the winner is the champion already
    champion, challenger, said = stand_ins("production", "latest")
    assert (champion, challenger) == ("embedded", "latest") and "already" in said[0]
    assert challenge(champion, challenger).differs == {"weight": (0.6, 1.0)}
    swept(0.9, name="newer")
    assert stand_ins("production", "latest") == ("production", "latest", [])
    assert stand_ins("embedded", "weight=0.1") == ("embedded", "weight=0.1", [])


def test_a_champion_may_be_promoted_away_and_the_run_stays_the_same(home: Path) -> None:
    """The spec writes all settings out: the preset it was made from may have changed by the time it goes on."""
    Preset("mine", EMBEDDED).save(presets_folder() / "mine.json")
    before = plan(challenge("mine", "weight=0.9").spec).hash
    spec = challenge("mine", "weight=0.9").spec
    Preset("mine", EMBEDDED.replace(strength=0.9)).save(presets_folder() / "mine.json")
    assert plan(spec).hash == before


def test_it_runs_resumes_and_is_judged(tiny: Settings, bench: Any) -> None:
    duel = challenge(tiny, tiny.replace(strength=0.5), prompts=["noise"], seeds=2)
    run = sweep(duel.spec, on=bench, quiet=True)
    assert run.states()["to_do"] == 0 and run.axes == {"strength": [0.4, 0.5]} and is_challenge(run)
    evaluations = bench.counters()["unet_evaluations"]
    assert sweep(duel.spec, on=bench, quiet=True) == run and bench.counters()["unet_evaluations"] == evaluations
    found = verdict(run, duel)  # noise: nobody has a face
    assert (found.decision, found.found and found.found.pairs) == ("undecided", 0)
    assert [(rate.name, rate.champion, rate.challenger) for rate in found.guards] == [("no face score", 2, 2)]
    assert found.seconds["champion"] is not None and found.sheet().size[1] > 300


def test_the_log_has_what_chose_the_challenger_and_what_judged_it(home: Path) -> None:
    run = swept(seeds=(4, 5))
    duel = challenge("embedded", run, seeds=4)
    sample = run_sample(met(duel))
    verdict(sample.run, duel).promote()
    ((change,), problems) = preset_changes("production")
    assert change.chosen_on == RunSample(run=run.id, prompts=["p", "q"], seeds=[4, 5]) and problems == []
    assert (change.kind, change.judged_on) == ("promote", sample)
    assert sample.seeds == [1, 2, 3, 6]


@pytest.mark.parametrize("run", [5, None, ["latest"], {"a": 1}, "gone", ""])
def test_a_preset_whose_evidence_names_no_run_is_met_all_the_same(home: Path, run: object) -> None:
    Preset("mine", EMBEDDED, evidence={"run": run}).save(presets_folder() / "mine.json")
    assert challenge("mine", "weight=0.9").meeting.chosen_on is None


def test_a_promotion_that_was_killed_is_the_champion(home: Path) -> None:
    """Before its file is there: what is begun has happened."""
    run, moment = swept(), 0
    while not (presets_folder() / ".pending").exists():
        killed_at(moment, presets_folder(), lambda: write_promoted(run))
        moment += 1
    assert not (presets_folder() / "production.json").exists()
    swept(0.9, name="newer")
    assert stand_ins("production", "latest") == ("production", "latest", [])
    assert challenge("production", "latest").differs == {"weight": (1.0, 0.9)}
