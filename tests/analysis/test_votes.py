import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.runs import TWO_AXES as AXES, known_run, rewrite, scored

from workbench.analysis import votes
from workbench.analysis.votes import Pair, agreement, next_pair, read, record, undo
from workbench.errors import UsageError, VoteError
from workbench.evidence import wilson
from workbench.files import read_lines
from workbench.runs.run import Run


def vote_all(run: Run, limit: int = 10_000) -> list[Pair]:
    pairs = []
    rng = random.Random(0)
    while len(pairs) < limit and (pair := next_pair(run, rng)):
        record(run, pair, "tie")
        pairs.append(pair)
    return pairs


def test_every_pair_once_and_only_within_a_block(home: Path) -> None:
    pairs = vote_all(scored())
    assert len(pairs) == len({frozenset((p.a, p.b)) for p in pairs}) == 2 * 15
    assert all(p.a // 6 == p.b // 6 and p.a != p.b for p in pairs)
    assert {p.a < p.b for p in pairs} == {True, False}  # nothing tells which is the better
    assert set(Pair.__dataclass_fields__) == {"a", "b"}


def test_blocks_and_kinds_take_turns(home: Path) -> None:
    run = known_run(AXES, lambda s: (str(s), 40 + 10 * s["strength"] + s["weight"]), seeds=3)
    for number in (5, 11, 17):
        rewrite(run, number, scores={"flags": ["noisy"]})
    pairs = vote_all(run, 18)
    assert set(Counter(p.a // 6 for p in pairs).values()) == {6}
    records = run.records()

    def kind(p: Pair) -> str:
        if (p.a % 6 == 5) != (p.b % 6 == 5):
            return "guard"
        gap = abs((records[p.a]["scores"]["sharpness"] or 0) - (records[p.b]["scores"]["sharpness"] or 0))
        return "larger" if gap > 1.5 else "smaller"

    kinds = [kind(p) for p in pairs]
    # later on a block may have no pair left of the kind whose turn it is
    assert all(len(set(kinds[i : i + 3])) == 3 for i in range(0, 12, 3))


def test_what_cannot_be_compared_is_not_offered(home: Path) -> None:
    def tell(s: dict[str, Any]) -> Any:
        if s["weight"] == 0.0:
            return ("failed" if s["strength"] == 0.2 else "faceless"), None
        return f"{s['seed']} {s['weight']}", s["weight"] + s["seed"]  # equal pixels at both strengths

    pairs = vote_all(known_run(AXES, tell))
    assert sorted(sorted((p.a, p.b)) for p in pairs) == [[1, 2], [7, 8]]
    assert next_pair(known_run({}, lambda s: (str(s), 1.0))) is None
    assert next_pair(known_run({"weight": [0.0, 1.0]}, lambda s: (str(s), None))) is None


def test_a_block_of_many_pictures(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "MOST", 4)
    pairs = vote_all(scored(), 12)
    assert {n for p in pairs for n in (p.a % 6, p.b % 6)} == set(range(6))


def test_votes_are_kept_and_taken_back(home: Path) -> None:
    run = scored()
    assert read(run) == []
    with pytest.raises(VoteError, match="no vote"):
        undo(run)
    record(run, Pair(1, 0), "a", "me")
    record(run, Pair(0, 2), "tie")
    undo(run)
    assert [(v.pair, v.choice, v.voter) for v in read(run)] == [(Pair(1, 0), "a", "me")]
    record(run, Pair(0, 1), "a", "me")  # the same voter thinks again; another does not replace it
    record(run, Pair(0, 1), "b", "you")
    assert [(v.pair, v.choice) for v in read(run)] == [(Pair(0, 1), "a"), (Pair(0, 1), "b")]
    undo(run)
    undo(run)
    assert [(v.pair, v.choice) for v in read(run)] == [(Pair(1, 0), "a")]
    record(run, Pair(3, 4), "a", "me")
    record(run, Pair(0, 1), "tie", "me")
    assert [(v.pair, v.choice) for v in read(run)] == [(Pair(3, 4), "a"), (Pair(0, 1), "tie")]  # the newest last
    assert [line["kind"] for line in read_lines(run.path / "votes.jsonl")] == [
        "vote", "vote", "undo", "vote", "vote", "undo", "undo", "vote", "vote",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "choice"), [((0, 1), "c"), ((0, 6), "a"), ((0, 0), "a"), ((0, 99), "a"), ((0, 5), "b")]
)
def test_votes_that_say_nothing_are_refused(home: Path, pair: Any, choice: Any) -> None:
    run = known_run(AXES, lambda s: ("failed", None) if s["weight"] + s["strength"] == 1.4 else (str(s), 1.0))
    with pytest.raises(VoteError):
        record(run, Pair(*pair), choice)
    assert read(run) == []


def test_agreement_of_known_votes(home: Path) -> None:
    """Sharpness by cell: 42, 42.5, 43, 44, 44.5, 45."""
    run = scored()
    empty = agreement(run)
    assert (empty.n, empty.accuracy, empty.interval, empty.by_gap, empty.by_guard) == (0, None, None, {}, {})
    for number, flags in ((5, ["noisy"]), (4, ["noisy", "haloed"])):
        rewrite(run, number, scores={"flags": flags})
    for pair, choice in (((1, 0), "a"), ((0, 2), "b"), ((3, 2), "b"), ((0, 5), "a"), ((4, 5), "b"), ((3, 0), "tie")):
        record(run, Pair(*pair), choice)  # pyright: ignore[reportArgumentType]
    found = agreement(run)
    assert (found.n, found.ties, found.agreed, found.accuracy) == (5, 1, 3, 0.6)
    assert found.interval == pytest.approx((0.2307, 0.8824), abs=1e-4)  # Wilson, R: binom::binom.wilson(3, 5)
    # noisy fired on both of 4 and 5, so that it says nothing there
    assert {flag: (r.n, r.agreed) for flag, r in found.by_guard.items()} == {"noisy": (1, 0), "haloed": (1, 1)}
    assert found.gap == 1.0
    assert {name: (r.n, r.ties, r.agreed) for name, r in found.by_gap.items()} == {
        "smaller": (4, 0, 3), "larger": (1, 1, 0),
    }  # fmt: skip


def test_agreement_follows_the_present_score_and_its_direction(home: Path) -> None:
    run = scored()
    record(run, Pair(0, 1), "a")
    assert agreement(run).agreed == 0
    rewrite(run, 0, scores={"sharpness": 90.0, "noise": 3.0})
    rewrite(run, 1, scores={"noise": 9.0})
    assert agreement(run).agreed == 1 and agreement(run, "noise").agreed == 1  # less noise is better
    rewrite(run, 1, scores={"sharpness": 90.0})
    assert (agreement(run).n, agreement(run).agreed) == (1, 0)  # equal scores prefer neither
    assert (agreement(run, "lpips").n, agreement(run, "lpips").left_out) == (0, 1)
    with pytest.raises(UsageError, match="neither direction"):
        agreement(run, "yaw")
    with pytest.raises(UsageError, match="did you mean"):
        agreement(run, "sharp")


def test_a_vote_on_pictures_that_are_gone_counts_no_more(home: Path) -> None:
    run = scored({"weight": [0.0, 1.0]}, seeds=1)
    record(run, Pair(0, 1), "b")
    assert next_pair(run) is None
    rewrite(run, 0, pixels_sha256="others")
    assert (agreement(run).n, agreement(run).left_out) == (0, 1)
    assert next_pair(run) is not None


def test_wilson_at_its_ends() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
