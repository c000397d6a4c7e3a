"""Verdicts on runs whose records are written here, so that what they have to say is known."""

from pathlib import Path

import pytest
from support.runs import duel

from workbench.errors import MixedScores, NoChallenge, NotPromoted
from workbench.presets import Preset, RunSample, load_preset, presets_folder
from workbench.promotion.duel import MEETING, challenge, kept_meeting
from workbench.promotion.judging import Verdict, verdict
from workbench.promotion.ledger import looks
from workbench.runs import Run, open_run
from workbench.settings import Settings

SURE = [(50, 52), (40, 43), (60, 64), (50, 53), (50, 53.5), (41, 43.5), (50, 52), (40, 43)]
CLOSE = [(50, 50.1), (50, 49.9), (50, 50.2), (50, 49.8)] * 2


def rate(found: Verdict, name: str) -> tuple[int, int, bool]:
    (one,) = [rate for rate in found.guards if rate.name == name]
    return one.champion, one.challenger, one.blocks


def test_better(home: Path) -> None:
    run = duel(SURE)
    found = verdict(run)
    assert found.found and found.decision == "better" and found.found.more is None
    assert (found.wins, found.losses, found.ties) == (8, 0, 0)
    assert found.settings == {
        "champion": {"strength": 0.2, "weight": 0.0},
        "challenger": {"strength": 0.4, "weight": 1.0},
    }
    assert found.words == (
        "Better: the challenger is sharper than the champion by 2.9 points on these prompts (interval +2.2 to +3.6 at "
        "97.5 %; 8 pairs: 8 won, 0 lost); no guard fired; SSIM to the unrestored face "
        "-0.100 (further off); LPIPS to the unrestored face not measured; identity drift to the unrestored face not "
        "measured; time per picture not measured here."
    )


def test_three_pairs_are_few(home: Path) -> None:
    """Differences 2, 3, 4: mean 3, sd 1, and at the 1.25 % of a first look t(2) = 6.205: 3 -+ 3.58."""
    few = verdict(duel([(50, 52), (40, 43), (60, 64)]))
    assert few.found and few.decision == "undecided" and few.found.mean == pytest.approx(3)
    assert (few.found.low, few.found.high) == pytest.approx((-0.582, 6.582), abs=1e-3)


def test_worse(home: Path) -> None:
    found = verdict(duel([(two, one) for one, two in SURE], flags={1: ["noisy"]}))
    assert (found.decision, found.losses) == ("worse", 8)
    assert found.words.startswith("Worse: the challenger is softer than the champion by 2.9 points")


def test_as_good_is_a_verdict_of_its_own_and_a_reason_if_one_says_so(home: Path) -> None:
    found = verdict(duel(CLOSE))
    assert found.decision == "as_good" and found.words.startswith("As good: ")
    assert "within 2 points to either side" in found.words
    with pytest.raises(NotPromoted, match="--as-good"):
        found.promote()
    assert found.promote(as_good=True).evidence["verdict"]["decision"] == "as_good"
    assert verdict(duel(CLOSE), margin=0.01).decision == "undecided"


def test_undecided_and_what_deciding_costs(home: Path) -> None:
    run = duel([(50, 53), (50, 47), (50, 59), (50, 53)])
    for cell in range(8):
        for stage, key in (("base", f"b{cell // 2}"), ("refine", f"r{cell}")):
            run.append("stage", {"stage": stage, "key": key, "seconds": 3.0, "pid": 1})
    found = verdict(run)
    assert found.found and found.decision == "undecided" and found.found.more
    assert found.more_seconds == 12 * found.found.more
    assert f"about {found.found.more} more pairs ({2 * found.found.more} pictures, about " in found.words


def test_too_few(home: Path) -> None:
    one = verdict(duel([(50, 90)]))
    assert one.found and (one.decision, one.found.mean, one.found.low) == ("undecided", 40, float("-inf"))
    assert "1 pair shows nothing, take more seeds" in one.words and one.to_json()["found"]["low"] is None


def test_a_guard_blocks_where_it_fires_more_often_than_on_the_champion(home: Path) -> None:
    found = verdict(duel(SURE, flags={n: ["haloed", "small"] for n in (1, 3, 5, 7, 0)}))
    assert (found.decision, rate(found, "haloed")) == ("better", (1, 4, False))
    many = verdict(duel(SURE, flags={n: ["haloed", "small"] for n in range(1, 16, 2)}))
    assert (many.decision, rate(many, "haloed"), rate(many, "small")) == ("flagged", (0, 8, True), (0, 8, False))
    assert "haloed 8 of 8, champion 0 of 8 (more often by 54 to 100 % of the pictures)" in many.words
    with pytest.raises(NotPromoted, match="Flagged"):
        many.promote()


def test_a_flag_that_the_champion_has_as_often_does_not_block(home: Path) -> None:
    """A guard that fires on 6 % of all pictures, by nobody's fault, was on one of 32 nearly always, and blocked."""
    assert verdict(duel(SURE, flags={3: ["haloed"]})).decision == "better"
    assert verdict(duel(SURE, flags={n: ["haloed"] for n in range(16)})).decision == "better"


def test_missing_faces_count_as_a_guard_and_their_pairs_are_left_out(home: Path) -> None:
    found = verdict(duel([*SURE, (50, None)]))
    assert found.found and (found.decision, found.found.pairs) == ("better", 8)
    assert rate(found, "no face score") == (0, 1, False)
    none = verdict(duel([*SURE, *[(50, None)] * 5]))
    assert (none.decision, rate(none, "no face score")) == ("flagged", (0, 5, True))
    assert verdict(duel([*SURE, *[(None, 50)] * 5])).decision == "better"


def test_nothing_is_decided_before_all_pictures_are_there(home: Path) -> None:
    found = verdict(duel([*SURE, (50, "-")]))
    assert (found.decision, found.to_do, found.found) == ("not made", 1, None) and looks() == []
    assert "1 of 18 pictures are not made yet" in found.words
    with pytest.raises(NotPromoted, match="Not made"):
        found.promote()


def test_equal_pictures(home: Path) -> None:
    run = duel([(50, 50), (40, 40)])
    for record in run.records():
        run.append("cell", {**record, "pixels_sha256": f"h{record['cell'] // 2}"})
    found = verdict(run)
    assert (found.decision, found.ties, found.identical) == ("undecided", 2, True)
    assert "the same pictures to the last pixel" in found.words


def test_time_per_picture_is_of_what_was_made_here(home: Path) -> None:
    run = duel([(50, 52), (40, 43)])
    for key, seconds in {"b0": 4.0, "r0": 2.0, "r1": 1.0, "r2": 7.0, "r3": 7.0}.items():  # b1 came from the store
        run.append("stage", {"stage": "base", "key": key, "seconds": seconds, "pid": 1})
    assert verdict(run).seconds == {"champion": 6.0, "challenger": 5.0}
    assert "time per picture 5 s instead of 6 s, 17 % cheaper" in verdict(run).words


def test_promoted_with_its_verdict_as_evidence(home: Path) -> None:
    run = duel(SURE)
    found = verdict(run)
    preset = found.promote(note="at last")
    assert load_preset("production") == preset
    assert (preset.settings.strength, preset.settings.weight, preset.settings.seed) == (0.4, 1.0, 2)
    evidence = preset.evidence
    assert (evidence["chosen_by"], evidence["note"], evidence["verdict"]["decision"]) == (
        "a challenge",
        "at last",
        "better",
    )
    assert evidence["verdict"]["found"]["mean"] == pytest.approx(2.875) and evidence["caveat"] == found.caveat
    assert RunSample.model_validate(evidence["used"][-1]) == RunSample(run=run.id, prompts=["p0"], seeds=[*range(8)])
    with pytest.raises(NotPromoted, match="Worse"):
        verdict(duel([(two, one) for one, two in SURE])).promote()
    assert load_preset("production") == preset


def test_only_what_was_held_out_is_promoted(home: Path) -> None:
    with pytest.raises(NotPromoted, match="chose neither of the two"):
        verdict(duel(SURE, held_out=False)).promote()


def test_who_beat_another_has_not_beaten_production(home: Path) -> None:
    found = verdict(duel(SURE))
    Preset("production", Settings(model="embedded", strength=0.9)).save(presets_folder() / "production.json")
    with pytest.raises(NotPromoted, match="'production' has other settings"):
        found.promote()
    assert found.promote("mine").name == "mine"


def test_the_meeting_stays_with_the_run(home: Path) -> None:
    champion, changes = Settings(model="embedded", strength=0.2, weight=0.0), "strength=0.4, weight=1.0"
    duels = challenge(champion, changes, prompts=["p0"], seeds=[*range(8)])
    run = duel(SURE)
    assert verdict(run, duels).champion == "the given settings"
    assert verdict(run).meeting == duels.meeting == kept_meeting(run)
    (run.path / MEETING).write_text("{")
    assert not kept_meeting(run).held_out
    for changed, seeds in ((changes, [77]), ("strength=0.4, weight=0.9", [*range(8)])):
        other = challenge(champion, changed, prompts=["p0"], seeds=seeds)
        with pytest.raises(NoChallenge, match="is not the run of this challenge"):
            verdict(run, other)


def levels(*runs: Run) -> list[tuple[int, int]]:
    return [(found.looks, found.challengers) for run in runs if (found := verdict(run).found)]


def test_looks_and_challengers_are_counted_whoever_asks(home: Path) -> None:
    """The same numbers again are no new look; more pairs of the same two are, and another challenger is another one."""
    one, more = duel(SURE), duel([*SURE, (50, 52)])
    assert levels(one, one, more, one) == [(1, 1), (1, 1), (2, 1), (1, 1)]
    other = duel(SURE)
    for record in other.records():
        if record["cell"] % 2:
            other.append("cell", {**record, "settings": {**record["settings"], "weight": 0.5}})
    assert levels(other, more) == [(1, 2), (2, 1)]
    assert "look 1, challenger 2 of this champion" in verdict(other).words
    assert [(look.look, look.place) for look in looks()] == [(1, 1), (2, 1), (1, 2)]


def test_what_is_no_challenge(home: Path) -> None:
    spec = {"base": {}, "prompts": ["p"], "seeds": [0], "axes": {"weight": [0.0, 0.5, 1.0]}, "preset": "embedded"}
    spec |= {"strategy": "grid", "budget": None, "name": "t"}
    with pytest.raises(NoChallenge, match="one axis has two values"):
        verdict(open_run("t", spec, "ffffffff", 3))


def test_scores_of_two_versions_are_not_compared(home: Path) -> None:
    run = duel(SURE)
    for record, version in zip(run.records()[:2], ("blur-1", "bands-1"), strict=True):
        run.append("cell", {**record, "scores": {**record["scores"], "versions": {"sharpness": version}}})
    with pytest.raises(MixedScores):
        verdict(run)
