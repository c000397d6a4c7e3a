import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.runs import TWO_AXES as AXES, known_run, rewrite, scored
from support.widgets import ask, opened, picture

from workbench.analysis import votes
from workbench.notebook.widgets import Ballot
from workbench.notebook.widgets.ballot import SIDE, agreement_rows
from workbench.runs.run import Run


@pytest.fixture(autouse=True)
def looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "on")


@pytest.fixture
def run(home: Path) -> Run:
    """One prompt and seed: three cells, so three pairs."""
    run = known_run({"weight": [0.0, 0.5, 1.0]}, lambda s: (str(s), 40 + 10 * s["weight"]), seeds=1)
    for cell, colour in enumerate(("#400000", "#800000", "#ff0000")):
        picture(run, cell)
        Image.new("RGB", (300, 200 + 20 * cell), colour).save(run.path / "pictures" / f"{cell:04d}.png")
    return run


def red(data: bytes) -> int:
    """How red the middle of a picture is: which of the three cells it is."""
    image = opened(data)
    return image.getpixel((image.width // 2, image.height // 2))[0]  # pyright: ignore


def vote(ballot: Ballot, choice: str) -> None:
    ask(ballot, do="vote", choice=choice, turn=ballot.view["turn"])


def test_the_page_learns_nothing_but_pixels(run: Run) -> None:
    ballot = Ballot(run, rng=random.Random(1))
    state = {name: value for name, value in ballot.get_state().items() if not name.startswith("_") and name != "layout"}
    told = {name: value for name, value in state.items() if name not in ("a", "b")}
    assert set(ballot.view) == {"turn", "open", "votes", "ties", "none", "agreement"}
    assert ballot.view == {"turn": 1, "open": True, "votes": 0, "ties": 0, "none": False, "agreement": []}
    assert "cell" not in json.dumps(told, default=str) and "weight" not in json.dumps(told, default=str)
    for data in (ballot.a, ballot.b):
        image = Image.open(io.BytesIO(data))
        assert not image.getexif() and "comment" not in image.info


def test_the_sides_are_drawn(run: Run) -> None:
    first = {Ballot(run, rng=random.Random(i))._pair.a for i in range(12)}  # pyright: ignore
    assert len(first) > 1


def test_a_vote_goes_to_the_picture_that_was_shown(run: Run) -> None:
    ballot = Ballot(run, voter="me", rng=random.Random(3))
    shown = red(ballot.a), red(ballot.b)
    vote(ballot, "b")
    (given,) = votes.read(run)
    reds = {0: 0x40, 1: 0x80, 2: 0xFF}
    assert abs(reds[given.pair.a] - shown[0]) < 4 and abs(reds[given.pair.b] - shown[1]) < 4
    assert given.choice == "b" and given.voter == "me"
    assert ballot.view["votes"] == 1 and ballot.view["turn"] == 2 and {red(ballot.a), red(ballot.b)} != set(shown)


def test_a_key_pressed_twice_is_one_vote(run: Run) -> None:
    ballot = Ballot(run)
    for _ in range(3):
        ballot._received(ballot, {"do": "vote", "choice": "a", "turn": 1}, [])
    ballot.work.settle()
    assert len(votes.read(run)) == 1 and ballot.view["turn"] == 2


def test_the_last_vote_is_taken_back_and_its_pair_shown_again(run: Run) -> None:
    ballot = Ballot(run)
    pair = ballot._pair
    vote(ballot, "tie")
    assert ballot.view["ties"] == 1
    ask(ballot, do="undo")
    assert votes.read(run) == [] and ballot._pair == pair and "taken back" in ballot.said["text"]
    vote(ballot, "a")  # the turn has moved on, so that this is no second press
    assert [v.choice for v in votes.read(run)] == ["a"] and votes.read(run)[0].pair == pair
    ask(ballot, do="undo")
    ask(ballot, do="undo")
    assert ballot.said["error"] and "no vote" in ballot.said["text"]


def test_agreement_is_shown_on_request_and_at_the_end_only(run: Run) -> None:
    ballot = Ballot(run)
    vote(ballot, "a")
    assert ballot.view["agreement"] == []
    ask(ballot, do="agreement")
    assert ballot.view["agreement"] == agreement_rows(run) and ballot.view["agreement"][0][0] == "all"
    vote(ballot, "b")
    assert ballot.view["agreement"] == []  # gone again: it would tell what the next one should be
    vote(ballot, "tie")
    assert not ballot.view["open"] and ballot.a == b"" and ballot.view["agreement"]
    vote(ballot, "a")
    assert len(votes.read(run)) == 3


def test_both_faces_are_of_one_size(run: Run) -> None:
    rewrite(run, 0, scores={"box": [10, 10, 60, 60]})
    rewrite(run, 1, scores={"box": [10, 10, 110, 110]})
    rewrite(run, 2, scores={"box": [10, 10, 90, 90]})
    ballot = Ballot(run)
    assert opened(ballot.a).size == opened(ballot.b).size == (SIDE, SIDE)
    ballot.whole = True
    ballot.work.settle()
    assert opened(ballot.a).width == SIDE and opened(ballot.a).height < SIDE


def test_the_agreement_in_words(home: Path) -> None:
    run = scored(AXES)
    sharper = run.table()["sharpness"].tolist()
    for i, pair in enumerate([votes.Pair(0, 5), votes.Pair(1, 5), votes.Pair(5, 2), votes.Pair(0, 1)]):
        better = "a" if sharper[pair.a] > sharper[pair.b] else "b"
        votes.record(run, pair, "tie" if i == 3 else better)
    rows = agreement_rows(run)
    assert rows[0] == ["all", "3", "1", "3 of 3 (100%)", "44% to 100%"]
    assert rows[1][0].startswith("scores up to") and rows[2][0] == "scores further apart"


def test_nothing_to_compare(home: Path) -> None:
    ballot = Ballot(known_run({}, lambda s: ("p", 3.0), seeds=1))
    assert ballot.view["none"] and not ballot.view["open"] and ballot.view["agreement"] == []


def test_headless_it_says_what_was_voted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_WIDGETS", "off")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda *what, **how: shown.append(what[0]))
    Ballot(run)._ipython_display_()
    assert "No votes yet" in shown[0].data
    votes.record(run, votes.Pair(0, 1), "b")
    ballot = Ballot(run)
    ballot._ipython_display_()
    assert ballot.comm is None and "| all | 1 | 0 | 1 of 1 (100%) |" in shown[1].data
