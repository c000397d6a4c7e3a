"""Which task comes next: on a graph of jobs, without an engine."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from workbench.store import Store
from workbench.sweeps import Board, Cell, Claims, Graph, Task, plan


class Desk:
    """A sweep of the random model as a board sees it: what is in the store, and what is recorded."""

    def __init__(self, cells: Sequence[Cell], folder: Path) -> None:
        self.graph, self.folder = Graph(cells), folder
        self.stored: set[str] = set()
        self.recorded: set[int] = set()

    def board(self) -> Board:
        return Board(Claims(self.folder), self.graph, self.unrecorded, self.stored.__contains__)

    def unrecorded(self, cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if cell.index not in self.recorded]

    def do(self, board: Board, task: Task) -> list[Task]:
        """Make a task as an engine does, and what goes on from it; all that was made."""
        further = [found for key in task.keys for found in board.made(key)]
        self.stored |= set(task.keys)
        for key in task.keys:
            board.stored(key)
        self.recorded |= {cell.index for cell in task.cells}
        board.release(task.name)
        return [task, *(made for found in further for made in self.do(board, found))]

    def work_off(self, board: Board) -> list[Task]:
        made: list[Task] = []
        steps: set[str] = set()
        while task := board.take(steps):
            made += self.do(board, task)
            steps |= {task.first_step} if task.first_step else set()
        assert board.over()
        return made


@pytest.fixture
def desk(spec: dict[str, Any], tmp_path: Path) -> Desk:
    """24 cells: 2 bases, 8 refinements, 8 faces at 3 weights each."""
    return Desk(plan(spec, Store(None)).cells, tmp_path / "claims")


def test_every_job_once_in_an_order_that_shares(desk: Desk) -> None:
    made = desk.work_off(desk.board())
    assert Counter(task.stage for task in made) == {"base": 2, "refine": 8, "faces": 8}
    assert [task.stage for task in made[:3]] == ["base", "refine", "faces"]  # a finished picture as soon as can be
    refined = [task for task in made if task.stage == "refine"]
    # the two CFGs of a strength follow one another, since the second knows the first one's first step
    steps = [task.first_step for task in refined]
    assert steps[0::2] == steps[1::2] and len(set(steps)) == 4
    assert len(desk.recorded) == 24 and list(desk.folder.iterdir()) == []


def test_what_is_in_the_store_needs_no_inputs(desk: Desk) -> None:
    desk.stored |= {key for task in desk.graph.tasks if task.stage != "base" for key in task.keys}
    made = desk.work_off(desk.board())
    assert Counter(task.stage for task in made) == {"base": 2, "faces": 8}  # first pictures, which scores are told from
    assert len(desk.recorded) == 24


def test_a_picture_whose_first_picture_is_gone_gets_it_again(desk: Desk) -> None:
    desk.stored |= {key for task in desk.graph.tasks if task.stage != "base" for key in task.keys}
    made = desk.work_off(desk.board())
    assert Counter(task.stage for task in made) == {"base": 2, "faces": 8} and len(desk.recorded) == 24


def test_a_picture_whose_reference_is_gone_gets_it_again(desk: Desk) -> None:
    desk.stored |= {key for task in desk.graph.tasks if task.stage == "faces" for key in task.keys}
    made = desk.work_off(desk.board())
    assert Counter(task.stage for task in made) == {"base": 2, "refine": 8, "faces": 8}


def test_what_failed_elsewhere_is_not_made_again(desk: Desk) -> None:
    board = desk.board()
    base = board.take()
    assert base and base.stage == "base"
    failed = board.below(base.keys)
    assert len(failed) == 12
    board.release(base.name)
    desk.recorded |= {cell.index for cell in failed}
    made = desk.work_off(desk.board())
    assert base.name not in {task.name for task in made} and Counter(task.stage for task in made)["base"] == 1


def test_what_is_half_recorded_is_finished(desk: Desk) -> None:
    first = desk.graph.goals[0]
    desk.recorded.add(first.cells[0].index)
    made = {task.name: task for task in desk.work_off(desk.board())}
    assert [cell.index for cell in made[first.name].cells] == [cell.index for cell in first.cells[1:]]


def test_a_damaged_result_is_made_again(desk: Desk) -> None:
    desk.stored |= {key for task in desk.graph.tasks if task.stage == "refine" for key in task.keys}
    board = desk.board()
    faces = board.take()
    assert faces and faces.stage == "faces"
    board.lost(faces.taken[0])
    board.release(faces.name)
    refined, wanted = [], []
    while task := board.take():
        wanted.append(task.stage)
        refined += [task] if task.stage == "refine" else []
        desk.do(board, task)
    assert refined[0].keys == faces.taken and wanted.count("refine") == wanted.count("base") == 1
    assert board.over() and len(desk.recorded) == 24


def test_a_damaged_result_that_another_process_has_made_again_is_used(desk: Desk) -> None:
    """Of two workers of a cluster, each thought for ever that the other's results were lost."""
    desk.stored |= {key for task in desk.graph.tasks if task.stage == "refine" for key in task.keys}
    board = desk.board()
    faces = board.take()
    assert faces
    board.lost(faces.taken[0])
    board.release(faces.name)
    board.stored(faces.taken[0])
    again = board.take()
    assert again and again.name == faces.name


def test_two_processes_share_it_out(desk: Desk) -> None:
    one, two = desk.board(), desk.board()
    first, second = one.take(), two.take()
    assert first and second and (first.stage, second.stage) == ("base", "base") and first.name != second.name
    assert one.take() is None  # nothing but what waits for the two
    assert one.made(first.keys[0]) == [] and two.take() is None  # not in the store yet
    desk.do(one, first)
    theirs = two.take()
    assert theirs and theirs.stage == "refine" and theirs.taken == first.keys
    mine = one.take()
    assert mine and mine.stage == "refine" and mine.first_step != theirs.first_step
    desk.do(one, mine)
    two.close()
    made = desk.work_off(one)
    assert Counter(task.stage for task in made) == {"base": 1, "refine": 7, "faces": 7}


def test_what_another_process_has_done_since_one_looked_is_not_done_again(desk: Desk) -> None:
    class Late(Claims):
        def take(self, name: str) -> bool:
            """Another process has just made the base that is about to be claimed."""
            desk.stored |= {
                key for task in desk.graph.tasks if task.stage == "base" and task.name == name for key in task.keys
            }
            return super().take(name)

    first = Board(Late(desk.folder), desk.graph, desk.unrecorded, desk.stored.__contains__).take()
    assert first and first.stage == "refine"


def test_one_model_after_the_other(spec: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "other")
    config = other / "base" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "beta_end": 0.0119}))
    axes = {"model": [str(tiny_model), str(other)], "refine_cfg": [2.0, 6.0]}
    fixed = {name: value for name, value in spec["fixed"].items() if name != "model"}
    desk = Desk(plan({**spec, "axes": axes, "fixed": fixed}, Store(None)).cells, tmp_path / "claims")
    board = desk.board()
    first = board.take()
    assert first
    beside = list(iter(lambda: board.take((), first.model), None))
    assert beside and {task.model for task in beside} == {first.model}
    assert board.take((), ("diffusion", "another", "")) is None
    board.close()
    models = [task.model for task in desk.work_off(desk.board()) if task.denoises]
    assert len(set(models)) == 2 and sum(a != b for a, b in itertools.pairwise(models)) == 1
