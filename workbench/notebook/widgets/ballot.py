"""Blind votes: two faces side by side, neither names nor scores, and afterwards how well the score agrees."""

from __future__ import annotations

import random
from typing import Any

import traitlets

from workbench.analysis import layout as walls, votes
from workbench.runs import Run, find_run

from .panels import STATIC, Panel

SIDE = 448  # px; both faces are shown at one size, so that a larger one is not taken for a sharper one


class Ballot(Panel):
    """Vote A, B, T (tie) or U (undo) on pairs of a run's pictures; every vote is on disk at once.

    Nothing that tells the two apart reaches the page but their pixels: cell numbers stay in Python.

    Attributes:
        whole: whether whole pictures are shown, not the squares around the faces.
    """

    _esm = STATIC / "ballot.js"
    _css = STATIC / "ballot.css"

    view = traitlets.Dict().tag(sync=True)
    a = traitlets.Bytes().tag(sync=True)
    b = traitlets.Bytes().tag(sync=True)
    whole = traitlets.Bool(False).tag(sync=True)

    def __init__(self, run: Run | str, *, voter: str = "", rng: random.Random | None = None, **traits: Any) -> None:
        """`run`: as `wb.find_run` takes it. `rng`: draws the pairs and their sides. Raises `RunNotFound`."""
        self.run, self.voter = find_run(run), voter
        self._rng = rng or random.Random()
        self._pair: votes.Pair | None = None
        self._turn = 0  # a vote that was pressed twice names a pair that is gone
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
            pictures = [walls.tile(self.run, records[cell], SIDE, not self.whole) for cell in cells]
        with self.hold_sync():
            self.a, self.b = pictures
            self.view = {
                "turn": self._turn,
                "open": self._pair is not None,
                "votes": len(given),
                "ties": sum(vote.choice == "tie" for vote in given),
                "none": not given and self._pair is None,
                "agreement": agreement_rows(self.run) if agreement and given else [],
            }

    def _do_vote(self, message: dict[str, Any]) -> None:
        if self._pair is None or message["turn"] != self._turn:
            return
        votes.record(self.run, self._pair, message["choice"], self.voter)
        self.say("")
        self._next()

    def _do_undo(self, _: dict[str, Any]) -> None:
        given = votes.read(self.run)
        votes.undo(self.run)
        self._pair = given[-1].pair
        self._turn += 1
        self.say("The last vote was taken back; here is its pair again.")
        self._show()

    def _do_agreement(self, _: dict[str, Any]) -> None:
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
