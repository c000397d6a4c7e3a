"""Verdicts on runs whose records are written here, so that what they have to say is known."""

from pathlib import Path

import pytest
from support.runs import duel

from workbench.errors import MixedScores, NoChallenge, NothingToPromote
from workbench.presets.preset import load_preset
from workbench.promotion.judging import verdict
from workbench.runs import open_run


def test_better(home: Path) -> None:
    """Differences 2, 3, 4: mean 3, sd 1, t(2) = 4.303, so the interval is 3 -+ 4.303 / sqrt 3 = 0.516 to 5.484."""
    found = verdict(duel([(50, 52), (40, 43), (60, 64)]))
    assert (found.decision, found.pairs, found.mean, found.sd) == ("better", 3, 3.0, 1.0)
    assert found.interval == pytest.approx((0.516, 5.484), abs=1e-3)
    assert (found.wins, found.losses, found.ties, found.more_seeds) == (3, 0, 0, None)
    assert found.settings == {
        "champion": {"strength": 0.2, "weight": 0.0},
        "challenger": {"strength": 0.4, "weight": 1.0},
    }
    assert found.words == (
        "Better: the challenger is sharper than the champion by 3.0 points (95 % interval +0.5 to +5.5; 3 pairs, so few "
        "that the interval is rough: 3 won, 0 lost); no guard fired; SSIM to the unrestored face -0.100 (further off); "
        "LPIPS to the unrestored face not measured; identity drift to the unrestored face not measured; time per picture not "
        "measured here."
    )
    assert "whether these were held out is not known".lower() in found.caveat.lower()


def test_worse(home: Path) -> None:
    found = verdict(duel([(52, 50), (43, 40), (64, 60)], flags={1: ["noisy"]}))
    assert (found.decision, found.mean, found.losses) == ("worse", -3.0, 3)
    assert found.words.startswith("Worse: the challenger is softer than the champion by 3.0 points")


def test_not_proven_and_how_many_more(home: Path) -> None:
    """Differences 1, -1, 3, 1: mean 1, sd 1.633; t(12) x 1.633 / sqrt 13 = 0.987 is the first below 1: 13 pairs, 9 more."""
    found = verdict(duel([(50, 51), (50, 49), (50, 53), (50, 51)]))
    assert (found.decision, found.more_seeds, found.wins, found.losses) == ("not proven", 9, 3, 1)
    assert "about 9 more seeds would decide" in found.words
    # with two prompts each seed is two pairs
    assert verdict(duel([(50, 51), (50, 49), (50, 53), (50, 51)], prompts=2)).more_seeds == 5
    never = verdict(duel([(50, 60), (50, 40)]))
    assert never.more_seeds is None and "too small to settle" in never.words


def test_too_few(home: Path) -> None:
    one = verdict(duel([(50, 90)]))
    assert (one.decision, one.mean, one.interval) == ("not proven", 40, None)
    assert "1 pair shows nothing, take more seeds" in one.words


def test_flagged(home: Path) -> None:
    pairs = [(50, 52), (40, 43), (60, 64)]
    found = verdict(duel(pairs, flags={3: ["haloed", "small"], 0: ["small"]}))
    assert (found.decision, found.mean) == ("flagged", 3.0)
    assert found.guards == {"champion": {"small": 1}, "challenger": {"haloed": 1, "small": 1}}
    assert "guards on the challenger: haloed 1x, small 1x; guards on the champion: small 1x" in found.words
    with pytest.raises(NothingToPromote, match="Flagged"):
        found.promote()
    # what does not block, and what fires on the champion, does not matter
    assert verdict(duel(pairs, flags={3: ["small"], 0: ["haloed"]})).decision == "better"


def test_a_missing_face_of_the_challenger_blocks_and_its_pair_is_left_out(home: Path) -> None:
    pairs = [(50, 52), (40, 43), (60, 64)]
    found = verdict(duel([*pairs, (50, None)]))
    assert (found.decision, found.pairs, found.mean, found.missing["challenger"]) == ("flagged", 3, 3.0, 1)
    assert "1 without a face score" in found.words
    assert verdict(duel([*pairs, (None, 50)])).decision == "better"


def test_nothing_is_decided_before_all_pictures_are_there(home: Path) -> None:
    found = verdict(duel([(50, 52), (40, 43), (60, 64), (50, "-")]))
    assert (found.decision, found.to_do, found.more_seeds) == ("not proven", 1, None)
    assert "1 of 8 pictures are not made yet" in found.words


def test_equal_pictures(home: Path) -> None:
    run = duel([(50, 50), (40, 40)])
    for record in run.records():
        run.append("cell", {**record, "pixels_sha256": f"h{record['cell'] // 2}"})
    found = verdict(run)
    assert (found.decision, found.ties, found.identical) == ("not proven", 2, True)
    assert "the same pictures to the last pixel" in found.words


def test_time_per_picture_is_of_what_was_made_here(home: Path) -> None:
    run = duel([(50, 52), (40, 43)])
    for key, seconds in {"b0": 4.0, "r0": 1.0, "r1": 2.0, "r2": 7.0, "r3": 7.0}.items():  # b1 came from the store
        run.append("stage", {"stage": "base", "key": key, "seconds": seconds, "pid": 1})
    assert verdict(run).seconds == {"champion": 5.0, "challenger": 6.0}
    assert "time per picture 6 s instead of 5 s" in verdict(run).words


def test_promoted_with_its_verdict_as_evidence(home: Path) -> None:
    found = verdict(duel([(50, 52), (40, 43), (60, 64)]))
    preset = found.promote(note="at last")
    assert load_preset("production") == preset
    assert (preset.settings.strength, preset.settings.weight, preset.settings.seed) == (0.4, 1.0, 2)
    evidence = preset.evidence
    assert (evidence["chosen_by"], evidence["note"], evidence["verdict"]["decision"]) == (
        "a challenge",
        "at last",
        "better",
    )
    assert evidence["verdict"]["mean"] == 3.0 and evidence["caveat"] == found.caveat
    with pytest.raises(NothingToPromote, match="Worse"):
        verdict(duel([(52, 50), (43, 40), (64, 60)])).promote()
    assert load_preset("production") == preset


def test_what_is_no_challenge(home: Path) -> None:
    spec = {"base": {}, "prompts": ["p"], "seeds": [0], "axes": {"weight": [0.0, 0.5, 1.0]}, "preset": "embedded"}
    spec |= {"strategy": "grid", "budget": None, "name": "t"}
    with pytest.raises(NoChallenge, match="one axis has two values"):
        verdict(open_run("t", spec, "ffffffff", 3))
    run = duel([(50, 52), (40, 43)])
    for record, version in zip(run.records(), ("blur-1", "blur-2", "blur-1", "blur-1"), strict=True):
        run.append("cell", {**record, "scores": {**record["scores"], "versions": {"sharpness": version}}})
    with pytest.raises(MixedScores):
        verdict(run)


def test_pictures(home: Path) -> None:
    found = verdict(duel([(50, 52), (40, None), (60, "-"), (50, 40)]))
    assert found.chart().size == (792, 209)
    sheet, most = found.sheet(tile=100), found.sheet(tile=100, most=2)
    assert sheet.height > 400 > most.height > 200
