"""Blind votes: two faces side by side, neither names nor scores, and afterwards how well the score agrees."""

from __future__ import annotations

import random
from typing import Literal, TypedDict

import traitlets

from workbench.analysis import face_square, votes
from workbench.files import fitted, jpeg_bytes, open_picture
from workbench.runs import Record, Run, find_run

from .panels import Message, Panel
from .scripts import script, style

SIDE = (
    1024  # px, which may be zoomed into; both faces have one size, so that a larger one is not taken for a sharper one
)
QUALITY = 92  # of their JPEGs: at 80 the ringing around eyelashes is taken for sharpness


class BallotView(TypedDict):
    """What the ballot shows.

    `turn`: changes with the pair. `open`: whether there is a pair to vote on; `none`: whether there never was one. `votes`,
    `ties`: how many votes were given, and how many of them are ties. `agreement`: rows of the table, [] if not shown.
    """

    turn: int
    open: bool
    votes: int
    ties: int
    none: bool
    agreement: list[list[str]]


class VoteMessage(Message):
    """A vote on the pair of that turn."""

    choice: Literal["a", "b", "tie"]
    turn: int


class Ballot(Panel):
    """Vote A, B, T (tie) or U (undo) on pairs of a run's pictures; every vote is on disk at once.

    Nothing that tells the two apart reaches the page but their pixels: cell numbers stay in Python.

    Attributes:
        run, voter: whose pictures are voted on, and who votes.
        view: a `BallotView`.
        a, b: JPEGs of the two faces.
        whole: whether whole pictures are shown, not the squares around the faces.
    """

    _esm = script("ballot", "zooming")
    _css = style("ballot", "zooming")

    view = traitlets.Dict().tag(sync=True)
    a = traitlets.Bytes().tag(sync=True)
    b = traitlets.Bytes().tag(sync=True)
    whole = traitlets.Bool(False).tag(sync=True)

    def __init__(self, run: Run | str, *, voter: str = "", rng: random.Random | None = None, **traits: object) -> None:
        """`run`: as `wb.find_run` takes it. `rng`: draws the pairs and their sides. Raises `RunNotFound`."""
        self.run, self.voter = find_run(run), voter
        self._rng = rng or random.Random()
        self._pair: votes.Pair | None = None
        self._turn = 0  # counts the pairs shown: of a key pressed twice, the second vote names a turn that is over
        super().__init__(**traits)
        self._next()
        self.observe(lambda _: self.work.submit(self._show), "whole")

    def _next(self) -> None:
        self._pair = votes.next_pair(self.run, self._rng)
        self._turn += 1
        self._show(agreement=self._pair is None)

    def _show(self, agreement: bool = False) -> None:
        given = votes.read(self.run)
        pictures = [b"", b""]
        if self._pair is not None:
            records = {record["cell"]: record for record in self.run.records()}
            cells = (self._pair.a, self._pair.b)
            pictures = [self._picture(records[cell]) for cell in cells]
        with self.hold_sync():
            self.a, self.b = pictures
            self.view = BallotView(
                turn=self._turn,
                open=self._pair is not None,
                votes=len(given),
                ties=sum(vote.choice == "tie" for vote in given),
                none=not given and self._pair is None,
                agreement=agreement_rows(self.run) if agreement and given else [],
            )

    def _picture(self, record: Record) -> bytes:
        image, box = open_picture(self.run.picture(record)), record["scores"].get("box")
        face = image if self.whole or not box else image.crop(face_square(box, image.size))
        return jpeg_bytes(fitted(face, SIDE), QUALITY, fine_colour=True)

    def _do_vote(self, message: VoteMessage) -> None:
        if self._pair is None or message["turn"] != self._turn:
            return
        votes.record(self.run, self._pair, message["choice"], self.voter)
        self.say("")
        self._next()

    def _do_undo(self, _: Message) -> None:
        given = votes.read(self.run)
        votes.undo(self.run)
        self._pair = given[-1].pair
        self._turn += 1
        self.say("The last vote was taken back; here is its pair again.")
        self._show()

    def _do_agreement(self, _: Message) -> None:
        self._show(agreement=True)

    def _static(self) -> None:
        from IPython.display import Markdown, display

        given = votes.read(self.run)
        if not given:
            display(Markdown("No votes yet: open this notebook in JupyterLab to vote with the keys A, B and T."))
            return
        head = "| pairs | votes | ties | the score agreed | 95 % interval |\n| --- | --- | --- | --- | --- |\n"
        display(Markdown(head + "\n".join(f"| {' | '.join(row)} |" for row in agreement_rows(self.run))))


def agreement_rows(run: Run) -> list[list[str]]:
    """[which pairs, votes, ties, agreed, 95 % interval] in words: all, by difference of the scores, by guard."""
    found = votes.agreement(run)
    parts: dict[str, votes.Rate] = {"all": found}
    if found.gap is not None:
        parts[f"scores up to {found.gap:.1f} points apart"] = found.by_gap["smaller"]
        parts["scores further apart"] = found.by_gap["larger"]
    parts |= {f"'{flag}' on one of the two": rate for flag, rate in found.by_guard.items()}
    return [[name, str(rate.n), str(rate.ties), *_rate(rate)] for name, rate in parts.items()]


def _rate(rate: votes.Rate) -> list[str]:
    if rate.accuracy is None or rate.interval is None:
        return ["not measured", ""]
    low, high = rate.interval
    return [f"{rate.agreed} of {rate.n} ({rate.accuracy:.0%})", f"{low:.0%} to {high:.0%}"]
