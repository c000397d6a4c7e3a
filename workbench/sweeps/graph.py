"""The jobs of a sweep as a graph: each job once, whatever number of cells need it; edges are the results it takes.

A *task* is what one process claims and runs: one job, or the jobs that share a call. Cells are the leaves: each shows the
result of the last job on its way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from workbench.recipe import DenoisingStage, Job, first_made, jobs_of, last_made, one_moment
from workbench.settings import Settings

from .costs import work_units
from .planning import Cell

WINDOW = 8  # first pictures worked on side by side: each one's first refine steps and encoded picture stay in memory


@dataclass(frozen=True)
class Shown:
    """A cell whose finished picture a job makes.

    Attributes:
        reference: key of the result that its fidelity is measured against.
        first: key of its first picture, which tells whether the face was torn since.
    """

    cell: Cell
    reference: str
    first: str


@dataclass(frozen=True)
class Task:
    """Jobs of one stage that run in one call, with the cells that show their results.

    Attributes:
        name: of the claim on it.
        jobs: at least one; they take the same results.
        shown: {key of a job: its cells}.
        first_step: names the first UNet evaluation. Tasks that differ in CFG alone have the same one, and it is done once for
            all of them. None: nothing is shared.
    """

    name: str
    jobs: tuple[Job, ...]
    shown: dict[str, tuple[Shown, ...]]
    first_step: str | None

    @property
    def stage(self) -> str:
        return self.jobs[0].stage

    @property
    def settings(self) -> Settings:
        return self.jobs[0].settings

    @property
    def taken(self) -> tuple[str, ...]:
        return self.jobs[0].taken

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(job.key for job in self.jobs)

    @property
    def denoises(self) -> bool:
        return isinstance(self.jobs[0].kind, DenoisingStage)

    @property
    def model(self) -> tuple[str, ...]:
        """What chooses its networks."""
        stage = self.jobs[0].kind
        return (stage.slot(), *(str(getattr(self.settings, name)) for name in stage.networks))

    def may_run_beside(self, model: tuple[str, ...] | None) -> bool:
        """Whether it can run while pictures of `model` are denoised: two SDXLs do not fit on one card."""
        return model is None or not self.denoises or self.model == model

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(shown.cell for each in self.shown.values() for shown in each)

    @property
    def references(self) -> set[str]:
        return {key for each in self.shown.values() for shown in each for key in (shown.reference, shown.first)}

    def showing(self, cells: set[int]) -> Task:
        """The same task with only these cells, by their numbers."""
        kept = {key: tuple(s for s in each if s.cell.index in cells) for key, each in self.shown.items()}
        return Task(self.name, self.jobs, {key: each for key, each in kept.items() if each}, self.first_step)


class Graph:
    """The tasks of some cells.

    Attributes:
        goals: the tasks that cells are shown from, in the order in which they should run.
        makers: {key of a result: the task that makes it}.
    """

    def __init__(self, cells: Iterable[Cell]) -> None:
        jobs: dict[str, Job] = {}
        shown: dict[str, list[Shown]] = defaultdict(list)
        for cell in cells:
            for job in jobs_of(cell.settings, cell.keys):
                jobs.setdefault(job.key, job)
            keys = (cell.keys[stage(cell.settings)] for stage in (last_made, first_made))
            shown[cell.key].append(Shown(cell, *keys))
        calls: dict[str, list[Job]] = defaultdict(list)
        for job in jobs.values():
            calls[job.call].append(job)
        with one_moment():
            tasks = [
                Task(
                    name=name,
                    jobs=tuple(group),
                    shown={job.key: tuple(shown[job.key]) for job in group if job.key in shown},
                    first_step=group[0].first_step,
                )
                for name, group in calls.items()
            ]
        self.makers = {key: task for task in tasks for key in task.keys}
        self.goals = self._ordered([task for task in tasks if task.shown])

    @cached_property
    def users(self) -> dict[str, list[Task]]:
        """{key of a result: the tasks that take it}."""
        found: dict[str, list[Task]] = defaultdict(list)
        for task in self.tasks:
            for key in task.taken:
                found[key].append(task)
        return found

    @cached_property
    def tasks(self) -> list[Task]:
        return list({task.name: task for task in self.makers.values()}.values())

    @cached_property
    def sharing(self) -> dict[str, list[Task]]:
        """{first step: the tasks that begin with it}."""
        found: dict[str, list[Task]] = defaultdict(list)
        for task in self.tasks:
            if task.first_step:
                found[task.first_step].append(task)
        return found

    def below(self, keys: Iterable[str]) -> list[Cell]:
        """The cells that cannot be made without these results."""
        cells: dict[int, Cell] = {}
        open_keys = list(keys)
        seen = set(open_keys)
        while open_keys:
            key = open_keys.pop()
            cells |= {shown.cell.index: shown.cell for shown in self.makers[key].shown.get(key, ())}
            for task in self.users.get(key, ()):
                for further in task.keys:
                    if further not in seen:
                        seen.add(further)
                        open_keys.append(further)
        return [cells[index] for index in sorted(cells)]

    def _ordered(self, goals: list[Task]) -> list[Task]:
        """One model comes after the other, and of its first pictures `WINDOW` at a time.

        Among the goals of these, those with the longest denoising come first; of equally long ones, each first picture gets
        its first goal before one gets its second, so that every seed shows something early.
        """
        models: dict[tuple[str, ...], dict[str, int]] = {}
        turns: dict[tuple[str, float], int] = {}
        turn_of: dict[str, tuple[int, int, float, int, int]] = {}
        leads = [self._lead(goal) for goal in goals]
        for lead in leads:
            if lead.name in turn_of:
                continue
            root = self._way(lead)[-1]
            roots = models.setdefault(root.model, {})
            place = roots.setdefault(root.name, len(roots))
            work = work_units(lead.stage, lead.settings)
            turn = turns[root.name, work] = turns.get((root.name, work), -1) + 1
            turn_of[lead.name] = (list(models).index(root.model), place // WINDOW, -work, turn, place)
        ranked = sorted(zip(leads, goals, strict=True), key=lambda pair: turn_of[pair[0].name])
        return [goal for _, goal in ranked]

    def _lead(self, goal: Task) -> Task:
        """The last task on the way to a goal that denoises: what it costs most."""
        way = self._way(goal)
        return next((task for task in way if task.denoises), way[-1])

    def _way(self, task: Task) -> list[Task]:
        """From a task up to the one with which its picture begins."""
        way = [task]
        while way[-1].taken:
            way.append(self.makers[way[-1].taken[0]])
        return way
