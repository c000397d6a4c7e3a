"""Who meets whom, and on which seeds."""

from pathlib import Path
from typing import Any

import pytest
from support.kills import killed_at
from support.runs import SCORES, duel as decided

from workbench.errors import NoChallenge, NothingToPromote, SettingsError
from workbench.presets import RunSample
from workbench.presets.preset import Preset, load_preset, preset_changes, presets_folder
from workbench.promotion.duel import challenge, is_challenge, latest_sweep, stand_ins
from workbench.promotion.judging import verdict
from workbench.promotion.promoting import promote
from workbench.runs import Run, open_run
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
    assert duel.spec.seeds == [2, 4, 5] and duel.spec.prompts == ["p", "q"] and duel.held_out
    assert duel.notes[0] == "Seeds 2, 4 and 5 are new to both." and "prompts are not new" in duel.notes[1]
    # a longer one begins with the pictures of the shorter one
    assert challenge("embedded", run, seeds=5).spec.seeds == [2, 4, 5, 6, 7]
    mine = challenge("embedded", run, seeds=[1, 2], prompts=["new"])
    assert not mine.held_out
    assert mine.notes == ("Seed 1 was used to choose one of the two and flatters it.",)


def test_what_the_champion_was_chosen_on_counts_too(home: Path) -> None:
    promote(swept(0.8, name="old", seeds=(0, 1, 2)))
    duel = challenge("production", swept(1.0, name="new", seeds=(3, 4)), seeds=2)
    assert duel.spec.seeds == [5, 6]
    assert duel.differs == {"weight": (0.8, 1.0)}
    # the seed of a preset that was written by hand was looked at, too
    Preset("mine", EMBEDDED.replace(weight=0.1, seed=0)).save(presets_folder() / "mine.json")
    assert challenge("mine", "latest", seeds=2).spec.seeds == [1, 2]


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
    promote(run)  # as 02_sweep does: the winner is the champion already
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
    duel = challenge(tiny, tiny.replace(strength=0.5), seeds=2)
    run = sweep(duel.spec, on=bench, quiet=True)
    assert run.states()["to_do"] == 0 and run.axes == {"strength": [0.4, 0.5]} and is_challenge(run)
    evaluations = bench.counters()["unet_evaluations"]
    assert sweep(duel.spec, on=bench, quiet=True) == run and bench.counters()["unet_evaluations"] == evaluations
    found = verdict(run, duel)  # noise: nobody has a face
    assert (found.decision, found.pairs, found.missing) == ("flagged", 0, {"champion": 2, "challenger": 2})
    assert found.seconds["champion"] is not None and found.sheet().size[1] > 300


def test_the_log_has_what_chose_the_challenger_and_what_judged_it(home: Path) -> None:
    run = swept(seeds=(4, 5))
    judged = decided([(50, 52), (40, 43), (60, 64)])
    verdict(judged, challenge("embedded", run)).promote()
    verdict(judged, challenge("embedded", "weight=0.9")).promote()
    verdict(judged).promote()
    changes, problems = preset_changes("production")
    chose = RunSample(run=run.id, prompts=["p", "q"], seeds=[4, 5])
    assert [change.chosen_on for change in changes] == [chose, None, None] and problems == []
    assert {change.judged_on.run for change in changes if change.judged_on} == {judged.id}
    assert [change.judged_on and change.judged_on.seeds for change in changes] == [[0, 1, 2]] * 3


@pytest.mark.parametrize("run", [5, None, ["latest"], {"a": 1}, "gone", ""])
def test_a_preset_whose_evidence_names_no_run_is_met_all_the_same(home: Path, run: object) -> None:
    Preset("mine", EMBEDDED, evidence={"run": run}).save(presets_folder() / "mine.json")
    assert challenge("mine", "weight=0.9").chosen_on is None


def test_a_promotion_that_was_killed_is_the_champion(home: Path) -> None:
    """Before its file is there: what is begun has happened."""
    run, moment = swept(), 0
    while not (presets_folder() / ".pending").exists():
        killed_at(moment, presets_folder(), lambda: promote(run))
        moment += 1
    assert not (presets_folder() / "production.json").exists()
    swept(0.9, name="newer")
    assert stand_ins("production", "latest") == ("production", "latest", [])
    assert challenge("production", "latest").differs == {"weight": (1.0, 0.9)}
