"""What came of a run in a sentence."""

from pathlib import Path
from typing import Any

from support.runs import known, known_run, painted, rewrite

from workbench.analysis.headlines import best_setting, headline, shown_cells


def test_the_winner_is_named_with_how_sure_it_is(home: Path) -> None:
    said = headline(known()).words
    assert said.startswith("Winner: Strength 0.4, Refine CFG 2, CodeFormer weight 1, sharpness ")
    assert "over 2 pictures; 2 of 17 others not told apart" in said
    assert "takes two prompts or seeds" in headline(known(seeds=1)).words
    assert headline(known({})).words.endswith("there is no other.")


def test_a_setting_on_which_a_guard_fired_does_not_win(home: Path) -> None:
    run = known_run({"weight": [0.0, 0.5, 1.0]}, lambda s: (str(s), 10 * s["weight"] + s["seed"]))
    rewrite(run, 2, scores={"flags": ["haloed"]})
    said = headline(run)
    assert said.setting == "CodeFormer weight 0.5" and said.flagged == 1
    assert said.words.endswith("1 sharper setting was passed over: a guard fired.")
    for cell in (0, 1):
        rewrite(run, cell, scores={"flags": ["noisy"]})
    assert headline(run).words == "No winner: a guard fired on every setting."
    failed: Any = known_run({"weight": [0.0, 1.0]}, lambda s: ("failed", None))
    assert headline(failed).words == "No winner: no setting has a face score on every prompt and seed."
    assert isinstance(best_setting(failed), str)


def test_the_cell_that_stands_for_a_setting_is_of_the_first_prompt_and_seed(home: Path) -> None:
    run = painted(known_run({"weight": [0.0, 1.0]}, lambda s: (str(s), 1.0)))
    assert shown_cells(run) == {(0.0,): 0, (1.0,): 1}
    rewrite(run, 1, status="failed", reason="no")
    assert shown_cells(run) == {(0.0,): 0, (1.0,): 3}
