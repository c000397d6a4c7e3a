from pathlib import Path

import pytest
from support.runs import TWO_AXES as AXES, known_run, rewrite, scored

from workbench.analysis import favourites, mark_cell
from workbench.errors import NoPicture, UsageError


def test_a_mark_is_kept_replaced_and_taken_off(home: Path) -> None:
    run = scored()
    assert favourites(run) == {} and not (run.path / "marks.jsonl").exists()
    mark_cell(run, 4, "favourite")
    mark_cell(run, 1, "reject")
    assert list(favourites(run).items()) == [(1, "reject"), (4, "favourite")]
    mark_cell(run, 1, "favourite")
    mark_cell(run, 4, None)
    assert favourites(run) == {1: "favourite"}
    assert len((run.path / "marks.jsonl").read_text().splitlines()) == 4  # nothing is rewritten


def test_a_mark_is_on_a_picture_not_on_a_place(home: Path) -> None:
    run = scored()
    mark_cell(run, 2, "favourite")
    rewrite(run, 2, pixels_sha256="another")
    assert favourites(run) == {}
    rewrite(run, 2, status="failed", reason="base: no")
    assert favourites(run) == {}


def test_what_cannot_be_marked_is_said(home: Path) -> None:
    run = known_run(AXES, lambda s: ("failed", None) if s["weight"] == 0.5 else (str(s), 1.0))
    with pytest.raises(NoPicture, match=r"cell 1 of .* has no picture"):
        mark_cell(run, 1, "reject")
    with pytest.raises(NoPicture):
        mark_cell(run, 99, "favourite")
    with pytest.raises(UsageError, match="favourite or reject"):
        mark_cell(run, 0, "best")  # pyright: ignore[reportArgumentType]
    assert favourites(run) == {}
