"""Blind pairwise votes on a run's pictures, kept with the run, and how well a score agrees with them.

`votes.jsonl` in the run's folder grows by one line for each vote and for each vote taken back; nothing in it is rewritten.
Knows no torch.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from workbench.errors import UsageError, VoteError
from workbench.evidence import wilson
from workbench.files import append_line, fits, read_lines
from workbench.runs import DONE, Record, Run
from workbench.scores import SHARPNESS

from .layout import measure_named, values_of

Preference = Literal["a", "b", "tie"]
MOST = 150  # cells of a block of which pairs are formed: 11,175 pairs, formed in 10 ms


@dataclass(frozen=True)
class Pair:
    """Two cells of a run, by number, to choose from. They have the same prompt and seed, and stand in random order."""

    a: int
    b: int


@dataclass(frozen=True)
class Vote:
    """One vote.

    Attributes:
        choice: which of the pair looked better; "tie": neither.
        voter: who gave it; "" where nobody was named.
        at: when, as ISO time.
        pixels: `pixels_sha256` of a and b as they were then.
    """

    pair: Pair
    choice: Preference
    voter: str
    at: str
    pixels: tuple[str, str]


@dataclass(frozen=True)
class Rate:
    """How often the better-scored picture was the one preferred.

    Attributes:
        n: votes for one of two pictures that both have a score.
        ties: votes that called two such pictures equal; they are in no other number.
        agreed: of the n, those for the picture with the better score; where the scores are equal, neither is.
        accuracy: agreed / n; chance is 0.5. None without votes.
        interval: 95 % interval of the accuracy by Wilson's score (1927), which holds for few votes, too. It takes votes
            as independent. None without votes.
    """

    n: int
    ties: int
    agreed: int
    accuracy: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Agreement(Rate):
    """The `Rate` of all votes, and of some parts of them.

    Attributes:
        by_guard: {flag: rate of the pairs in which that guard fired on one of the two only}.
        by_gap: {"smaller": rate of the pairs whose scores differ by up to `gap`, "larger": of the others}; {} without votes.
        gap: median difference of the two scores over the votes that have one; None without votes.
        left_out: votes whose pictures were made anew since, or have no score now.
    """

    by_guard: dict[str, Rate] = field(default_factory=dict)
    by_gap: dict[str, Rate] = field(default_factory=dict)
    gap: float | None = None
    left_out: int = 0


class VoteLine(TypedDict):
    """A line of `votes.jsonl`: a vote on cells a and b."""

    kind: Literal["vote"]
    a: int
    b: int
    choice: Preference
    voter: str
    at: str
    pixels: Annotated[list[str], Field(min_length=2, max_length=2)]


class UndoLine(TypedDict):
    """A line of `votes.jsonl`: the last vote that stood is taken back."""

    kind: Literal["undo"]
    at: str


LINE: TypeAdapter[VoteLine | UndoLine] = TypeAdapter(VoteLine | UndoLine)


def vote_line(line: object) -> bool:
    """Whether a line of `votes.jsonl` is one of these."""
    return fits(line, LINE)


def next_pair(run: Run, rng: random.Random | None = None) -> Pair | None:
    """Two pictures that nobody has compared yet; None when all have been.

    Both have a sharpness, and their pixels differ. The prompt and seed with the fewest votes comes first. So does, within
    it, the kind of pair with the fewest votes; there are three: the difference of sharpness is above the median of that
    prompt and seed; it is not; a guard fired on one of the two only. Where a prompt and seed has more than 150 pictures,
    150 are drawn each time.
    """
    rng = rng or random.Random()
    blocks = _blocks(run)
    if not blocks:
        return None
    votes = read(run)
    told = {frozenset(vote.pixels) for vote in votes}
    places = {r["cell"]: block for block, records in blocks.items() for r in records}
    scored = {r["cell"]: r for records in blocks.values() for r in records}
    turns = Counter(places.get(vote.pair.a) for vote in votes)
    kinds: Counter[str] = Counter()
    for vote in votes:
        if vote.pair.a in scored and vote.pair.b in scored:
            records = blocks[places[vote.pair.a]]
            limit = _median_gap(records)
            kinds[_kind(scored[vote.pair.a], scored[vote.pair.b], limit)] += 1
    for block in sorted(blocks, key=lambda block: (turns[block], rng.random())):
        records = blocks[block]
        drawn = rng.sample(records, MOST) if len(records) > MOST else records
        limit = _median_gap(drawn)
        found: dict[str, list[tuple[int, int]]] = {}
        for a, b in itertools.combinations(drawn, 2):
            if frozenset((a["pixels_sha256"], b["pixels_sha256"])) not in told:
                found.setdefault(_kind(a, b, limit), []).append((a["cell"], b["cell"]))
        if found:
            kind = min(found, key=lambda kind: (kinds[kind], rng.random()))
            return Pair(*rng.sample(rng.choice(found[kind]), 2))
    return None


def _blocks(run: Run) -> dict[int, list[Record]]:
    """{number of a prompt with a seed: its records that can be compared}; of pictures with equal pixels only the first."""
    inner = math.prod(len(values) for values in run.axes.values())
    blocks: dict[int, dict[str, Record]] = {}
    records = run.records()
    measured = values_of(records, SHARPNESS)
    for record in records:
        if record["cell"] in measured:
            blocks.setdefault(record["cell"] // inner, {}).setdefault(record["pixels_sha256"], record)
    return {block: list(found.values()) for block, found in blocks.items() if len(found) > 1}


def _sharpness(record: Record) -> float:
    """Of a record that has one, as all of `_blocks` do."""
    value = record["scores"].get("sharpness")
    assert value is not None
    return value


def _gap(a: Record, b: Record) -> float:
    return abs(_sharpness(a) - _sharpness(b))


def _median_gap(records: list[Record]) -> float:
    sharpness = sorted(_sharpness(r) for r in records[:MOST])
    return statistics.median(b - a for a, b in itertools.combinations(sharpness, 2))


def _kind(a: Record, b: Record, limit: float) -> str:
    if set(_flags(a)) ^ set(_flags(b)):
        return "guard"
    return "larger" if _gap(a, b) > limit else "smaller"


def _flags(record: Record) -> list[str]:
    return record["scores"].get("flags", [])


def votes_file(run: Run) -> Path:
    return run.path / "votes.jsonl"


def record(run: Run, pair: Pair, choice: Preference, voter: str = "") -> None:
    """Keep a vote; it is on disk when this returns. A voter's second vote on a pair replaces the first.

    Raises `VoteError` where the choice is not a, b or tie, where a cell has no picture, and where the two cells differ in
    prompt or seed.
    """
    if choice not in get_args(Preference):
        raise VoteError(f"a vote is a, b or tie, not {choice!r}.")
    records = {r["cell"]: r for r in run.records() if r["status"] in DONE}
    for cell in (pair.a, pair.b):
        if cell not in records:
            raise VoteError(f"cell {cell} of {run.id} has no picture to vote on; take a pair from next_pair.")
    a, b = records[pair.a], records[pair.b]
    if pair.a == pair.b or any(a["settings"][name] != b["settings"][name] for name in ("prompt", "seed")):
        raise VoteError(
            f"cells {pair.a} and {pair.b} of {run.id} cannot be compared: a pair is two cells of equal prompt and seed."
        )
    append_line(
        votes_file(run),
        {"kind": "vote", "a": pair.a, "b": pair.b, "choice": choice, "voter": voter, "at": _now(),
         "pixels": [a["pixels_sha256"], b["pixels_sha256"]]},
    )  # fmt: skip


def undo(run: Run) -> None:
    """Take back the last vote that stands. Raises `VoteError` where there is none."""
    if not _standing(run):
        raise VoteError(f"there is no vote on {run.id} to take back.")
    append_line(votes_file(run), {"kind": "undo", "at": _now()})


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _standing(run: Run) -> list[Vote]:
    """The votes that were not taken back, oldest first."""
    votes: list[Vote] = []
    for line in read_lines(votes_file(run), vote_line):
        if line["kind"] == "vote":
            pair = Pair(line["a"], line["b"])
            votes.append(Vote(pair, line["choice"], line["voter"], line["at"], tuple(line["pixels"])))
        elif votes:  # of two that take the same one back at once, the second does nothing
            votes.pop()
    return votes


def read(run: Run) -> list[Vote]:
    """The votes that count, oldest first: of each voter the newest on each pair, without those taken back."""
    votes: dict[tuple[str, frozenset[int]], Vote] = {}
    for vote in _standing(run):
        key = (vote.voter, frozenset((vote.pair.a, vote.pair.b)))
        votes.pop(key, None)
        votes[key] = vote
    return list(votes.values())


def agreement(run: Run, measure: str = "sharpness") -> Agreement:
    """How well a measure, as it stands in the cells' records now, agrees with all votes on the run.

    Raises `UsageError` for a measure that does not exist, and for one that has no better direction.
    """
    which = measure_named(measure)
    if which.higher_is_better is None:
        raise UsageError(f"{measure} cannot agree with votes: neither direction of it is better.")
    records = {r["cell"]: r for r in run.records() if r["status"] in DONE}
    values = values_of(list(records.values()), which)
    judged: list[
        tuple[Vote, float, set[str]]
    ] = []  # (vote, how much better a is than b, guards that fired on one only)
    left_out = 0
    for vote in read(run):
        cells = (vote.pair.a, vote.pair.b)
        same = all(c in values and records[c]["pixels_sha256"] == p for c, p in zip(cells, vote.pixels, strict=True))
        if not same:
            left_out += 1
            continue
        lead = values[vote.pair.a] - values[vote.pair.b]
        only = set(_flags(records[vote.pair.a])) ^ set(_flags(records[vote.pair.b]))
        judged.append((vote, lead if which.higher_is_better else -lead, only))
    guards = sorted({flag for _, _, only in judged for flag in only})
    gap = statistics.median(abs(lead) for _, lead, _ in judged) if judged else None
    by_gap = {}
    if gap is not None:
        by_gap = {
            "smaller": _rate((v, lead) for v, lead, _ in judged if abs(lead) <= gap),
            "larger": _rate((v, lead) for v, lead, _ in judged if abs(lead) > gap),
        }
    by_guard = {flag: _rate((v, lead) for v, lead, only in judged if flag in only) for flag in guards}
    whole = _rate((v, lead) for v, lead, _ in judged)
    return Agreement(**whole.__dict__, by_guard=by_guard, by_gap=by_gap, gap=gap, left_out=left_out)


def _rate(votes: Iterable[tuple[Vote, float]]) -> Rate:
    told = list(votes)
    decided = [(vote.choice, lead) for vote, lead in told if vote.choice != "tie"]
    agreed = sum((choice == "a" and lead > 0) or (choice == "b" and lead < 0) for choice, lead in decided)
    n = len(decided)
    return Rate(n, len(told) - n, agreed, agreed / n if n else None, wilson(agreed, n) if n else None)
