"""Several workers: the hub without Ray, then a real Ray cluster of three nodes on this machine, parts of which are killed."""

import os
import pickle
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support import workers as ails
from support.runs import SCORES

from workbench.errors import (
    Cancelled,
    DiskFull,
    MissingWeights,
    NoCluster,
    NoWorkers,
    OtherPictures,
    RayMissing,
    SmallerBatch,
    StoreNotShared,
)
from workbench.files import read_lines
from workbench.models import hardware
from workbench.recipe import batch_of, stage_keys
from workbench.recipe.pipeline import Bench
from workbench.runs import Run
from workbench.settings import Settings
from workbench.store.store import Store
from workbench.sweeps.board import Claims
from workbench.sweeps.cluster import cluster, hub
from workbench.sweeps.cluster.cluster import Workers
from workbench.sweeps.cluster.hub import Hub
from workbench.sweeps.cluster.worker import RemoteRun, facts
from workbench.sweeps.graph import Task
from workbench.sweeps.planning import Cell, plan
from workbench.sweeps.recording import Recorder, holds_picture
from workbench.sweeps.session import open_run, sweep


class Shown:
    """A watcher that keeps what it was shown."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.finished: Counter[str] = Counter()

    def step(self, stage: str, done: int, total: int) -> None:
        self.steps.append((stage, done, total))

    def finish(self, stage: str, settings: Settings, seconds: float | None) -> None:
        self.finished[stage] += 1

    def measured(self, stage: str, settings: Settings, size_bytes: int, memory_bytes: int | None) -> None:
        self.finished["measured"] += 1


def recorded(run: Run) -> list[int]:
    """The cell of every record, in order: one named twice was recorded twice."""
    return sorted(line["cell"] for line in read_lines(run.journal) if line["kind"] == "cell")


def results(run: Run) -> list[Any]:
    return [(r["cell"], r["key"], r["status"], r["pixels_sha256"], r["scores"]) for r in run.records()]


# --- the hub, without Ray ------------------------------------------------------------------------------------------


@pytest.fixture
def begun(spec: dict, home: Path) -> tuple[Run, list[Cell]]:
    """A run of 24 cells of 2 bases and 8 refinements, of which nothing is done."""
    planned = plan(spec, Store(home / "store"))
    return open_run(planned), planned.cells


@pytest.fixture
def one_hub(begun: tuple[Run, list[Cell]]) -> Hub:
    run, cells = begun
    made = Hub(Recorder(run, batch_of()), cells)
    for token in ("a", "b"):
        made.begin(token)
    return made


def line_on(cell: Cell) -> dict[str, Any]:
    """What a journal says of a cell that is done."""
    return {
        "cell": cell.index, "key": cell.key, "keys": cell.keys, "settings": cell.settings.model_dump(), "status": "done",
        "reason": None, "scores": SCORES, "picture": "x", "pixels_sha256": "x", "seconds": 1.0,
    }  # fmt: skip


def deliver(to: Hub, token: str, task: Task, folder: Path) -> None:
    """Record a task's cells, as a worker does."""
    recorder = Recorder(RemoteRun(folder, lambda *about: to.post(token, *about)), batch_of())
    for cell in task.cells:
        recorder.cell(cell, Image.new("RGB", (8, 8), (cell.index, 0, 0)), 0.5, "no_face", SCORES, ())


def do(to: Hub, token: str, task: Task, folder: Path) -> list[Task]:
    """A task and what goes on from it, as a worker does them; those that were done."""
    further = [found for key in task.keys for found in to.made(token, key)]
    for key in task.keys:
        to.stored(token, key)
    deliver(to, token, task, folder)
    to.release(token, task.name)
    return [task, *(done for found in further for done in do(to, token, found, folder))]


def take(of: Hub, token: str, stage: str, folder: Path) -> Task:
    """The next task of a stage; those before it are done."""
    while task := of.take(token, [], None):
        if task.stage == stage:
            return task
        do(of, token, task, folder)
    raise AssertionError(f"no task of {stage}")


def test_every_task_is_made_once(one_hub: Hub, begun: tuple[Run, list[Cell]], tmp_path: Path) -> None:
    run, _ = begun
    seen = []
    while not one_hub.news()["over"]:
        for token in ("a", "b"):
            if task := one_hub.take(token, [], None):
                seen += [(done.stage, done.name) for done in do(one_hub, token, task, tmp_path / token)]
    assert len(seen) == len(set(seen))
    assert Counter(stage for stage, _ in seen) == {"base": 2, "refine": 8, "faces": 8}  # all weights of a face in one
    assert one_hub.over("a") and one_hub.over("b") and recorded(run) == list(range(24))
    one_hub.close()
    assert list((run.path / "claims").iterdir()) == []
    assert list((tmp_path / "a" / "pictures").iterdir()) == []


def _timeless(record: Any) -> dict[str, Any]:
    return {**record, "file": {name: value for name, value in record["file"].items() if name != "mtime_ns"}}


def test_what_a_worker_posts_is_what_a_recorder_writes(
    one_hub: Hub, begun: tuple[Run, list[Cell]], tmp_path: Path
) -> None:
    run, _ = begun
    refined = take(one_hub, "a", "refine", tmp_path / "a")
    (task,) = one_hub.made("a", refined.keys[0])
    deliver(one_hub, "a", task, tmp_path / "far")
    beside = Run(tmp_path / "beside")
    direct = Recorder(beside, batch_of())
    for cell in task.cells:
        direct.cell(cell, Image.new("RGB", (8, 8), (cell.index, 0, 0)), 0.5, "no_face", SCORES, ())
    mine, theirs = run.records(), beside.records()
    assert len(mine) == 3 and all(holds_picture(run, record) for record in mine)
    for record in mine:  # as recorded, so that it is not read again
        assert run.picture(record).stat().st_mtime_ns == record.get("file", {}).get("mtime_ns")
    assert [_timeless(record) for record in mine] == [_timeless(record) for record in theirs]
    for record in mine:
        assert run.picture(record).read_bytes() == beside.picture(record).read_bytes()


def test_a_result_is_made_by_one_worker_and_used_by_all(one_hub: Hub) -> None:
    one_hub.begin("c")
    first, second = one_hub.take("a", [], None), one_hub.take("b", [], None)
    assert first and second and (first.stage, second.stage) == ("base", "base") and first.name != second.name
    assert one_hub.take("c", [], None) is None
    assert one_hub.made("a", first.keys[0]) == []  # nothing but refinements go on from it
    assert one_hub.take("c", [], None) is None  # it is not in the store yet
    one_hub.stored("a", first.keys[0])
    one_hub.release("a", first.name)
    third = one_hub.take("c", [], None)
    assert third and third.stage == "refine" and third.taken == first.keys


def test_what_one_worker_missed_and_another_has_made_is_there_for_both(one_hub: Hub, tmp_path: Path) -> None:
    """Each thought for ever that the other's results were lost, and asked for them again and again."""
    base = one_hub.take("a", [], None)
    assert base
    one_hub.lost("b", base.keys[0])
    do(one_hub, "a", base, tmp_path / "a")
    other = one_hub.take("b", [], None)
    assert other and other.stage == "refine" and other.taken == base.keys


def test_a_dead_workers_task_goes_to_another(one_hub: Hub, begun: tuple[Run, list[Cell]], tmp_path: Path) -> None:
    refined = take(one_hub, "a", "refine", tmp_path / "a")
    one_hub.stored("a", refined.keys[0])
    (task,) = one_hub.made("a", refined.keys[0])
    one_hub.release("a", refined.name)
    one_hub.post("a", "cell", {"cell": task.cells[0].index, "key": task.cells[0].key}, None)
    assert one_hub.drop("a", "killed") and not one_hub.drop("a", "killed")
    assert one_hub.take("a", [], None) is None and one_hub.over("a")  # under its old token it gets and does nothing
    assert one_hub.look("a", None, [], {}) and one_hub.made("a", refined.keys[0]) == [] and one_hub.below("a", []) == []
    one_hub.post("a", "cell", {"cell": task.cells[1].index, "key": task.cells[1].key}, None)
    assert recorded(begun[0]) == [task.cells[0].index]
    again = take(one_hub, "b", "faces", tmp_path / "b")
    assert again.name == task.name and again.cells == task.cells[1:]  # without what is recorded
    one_hub.release("a", task.name)
    deliver(one_hub, "b", again, tmp_path / "b")
    assert recorded(begun[0]) == sorted(cell.index for cell in task.cells)  # none of them twice


def test_a_task_finished_by_a_dead_worker_is_shown(one_hub: Hub, tmp_path: Path) -> None:
    refined = take(one_hub, "a", "refine", tmp_path / "a")
    (task,) = one_hub.made("a", refined.keys[0])
    deliver(one_hub, "a", task, tmp_path / "a")
    one_hub.drop("a", "killed")
    assert [event[1][0] for event in one_hub.news()["events"]] == ["scores"] * 3 and one_hub.news()["events"] == []


def test_a_task_that_kills_workers_runs_alone_and_then_fails_all_that_need_it(
    one_hub: Hub, begun: tuple[Run, list[Cell]], tmp_path: Path
) -> None:
    run, cells = begun
    bad = take(one_hub, "a", "refine", tmp_path / "a")
    beside = one_hub.take("a", [], None)
    assert beside and beside.name != bad.name
    one_hub.drop("a", "killed")
    other = one_hub.take("b", [], None)
    assert other and other.name in (bad.name, beside.name)
    assert one_hub.take("b", [], None) is None  # nothing beside a task that may be to blame
    one_hub.release("b", other.name) if other.name == bad.name else do(one_hub, "b", other, tmp_path / "b")
    for n in range(2, hub.TRIES + 1):
        one_hub.begin(f"c{n}")
        while (task := one_hub.take(f"c{n}", [], None)) and task.name != bad.name:
            do(one_hub, f"c{n}", task, tmp_path / "c")
        assert task and one_hub.take(f"c{n}", [], None) is None
        assert run.states()["failed"] == 0
        one_hub.drop(f"c{n}", f"killed for the {n}rd time")
    failed = [record for record in run.records() if record["status"] == "failed"]
    assert [record["cell"] for record in failed] == [c.index for c in cells if c.keys["refine"] == bad.keys[0]]
    assert len(failed) == 3
    assert failed[0]["reason"] == "refine: 3 workers have died while they ran it; the last one: killed for the 3rd time"


def test_a_busy_worker_gets_no_task_that_killed_another(one_hub: Hub, tmp_path: Path) -> None:
    bad, own = one_hub.take("a", [], None), one_hub.take("b", [], None)
    assert bad and own
    one_hub.drop("a", "killed")
    assert one_hub.take("b", [], None) is None
    one_hub.release("b", own.name)
    alone = one_hub.take("b", [], None)
    assert alone and alone.name == bad.name
    assert one_hub.made("b", alone.keys[0]) == []  # nor anything beside it


def test_what_was_recorded_before_the_last_death_stays(
    one_hub: Hub, begun: tuple[Run, list[Cell]], tmp_path: Path
) -> None:
    first = take(one_hub, "a", "refine", tmp_path / "a")
    one_hub.stored("a", first.keys[0])
    one_hub.release("a", first.name)
    names = set()
    for n in range(hub.TRIES):
        one_hub.begin(f"w{n}")
        task = take(one_hub, f"w{n}", "faces", tmp_path / "w")
        names.add(task.name)
        cell = task.cells[0]
        if not n:
            one_hub.post(f"w{n}", "cell", line_on(cell), None)
        one_hub.drop(f"w{n}", "killed")
    assert len(names) == 1
    assert Counter(record["status"] for record in begun[0].records()) == {"done": 1, "failed": 2}
    assert len(recorded(begun[0])) == 3


def test_a_worker_of_an_earlier_hub_is_sent_away(begun: tuple[Run, list[Cell]]) -> None:
    later = Hub(Recorder(begun[0], batch_of()), begun[1], (), "second")
    assert not later.begin("first 0") and later.take("first 0", [], None) is None and not later.news()["begun"]
    assert later.begin("second 0") and later.take("second 0", [], None)


def test_beside_workers_without_ray(one_hub: Hub, begun: tuple[Run, list[Cell]]) -> None:
    """What they have claimed is left to them, and what they have recorded is not made again."""
    run, cells = begun
    others = Claims(run.path / "claims")
    first = one_hub.take("a", [], None)
    assert first and not others.take(first.name)
    (theirs,) = {cell.keys["base"] for cell in cells} - set(first.keys)
    assert others.take(theirs)
    assert one_hub.take("b", [], None) is None
    for cell in cells:
        if cell.keys["base"] == theirs:
            run.append("cell", line_on(cell))
    others.close()
    assert one_hub.take("b", [], None) is None  # nobody needs it any more
    mine = [cell for cell in cells if cell.keys["base"] in first.keys]
    for cell in mine[1:]:
        run.append("cell", line_on(cell) | ({} if cell.index > mine[1].index else {"key": "of older settings"}))
    one_hub.stored("a", first.keys[0])
    one_hub.release("a", first.name)
    refined = one_hub.take("b", [], None)
    assert refined and refined.stage == "refine" and refined.keys == (mine[0].keys["refine"],)
    (taken,) = one_hub.made("b", refined.keys[0])
    assert taken.cells == tuple(mine[:2]) and one_hub.take("b", [], None) is None


def test_what_could_not_be_written_is_not_recorded(
    one_hub: Hub, begun: tuple[Run, list[Cell]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refined = take(one_hub, "a", "refine", tmp_path / "a")
    (task,) = one_hub.made("a", refined.keys[0])
    with monkeypatch.context() as full:
        full.setattr(hub, "write_atomic", lambda *_: (_ for _ in ()).throw(DiskFull("no room")))
        with pytest.raises(DiskFull):
            deliver(one_hub, "a", task, tmp_path / "a")
    assert recorded(begun[0]) == []
    deliver(one_hub, "a", task, tmp_path / "a")
    assert len(recorded(begun[0])) == 3


def test_a_smaller_batch_survives_its_journey() -> None:
    error = pickle.loads(pickle.dumps(SmallerBatch("refine", 2)))
    assert (type(error), error.stage, error.size) == (SmallerBatch, "refine", 2)
    assert str(error) == str(SmallerBatch("refine", 2))


# --- without a cluster ---------------------------------------------------------------------------------------------


def test_without_ray_it_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RayMissing, match=r'pip install "sdxl-face-workbench\[ray\]"'), Workers(Store(home)):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense:port", "ray://somewhere:10001"])
def test_no_cluster_at_an_address(home: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with pytest.raises(NoCluster, match=f"no Ray cluster answers at {address}") as error, Workers(Store(home)):
        pass
    assert time.monotonic() - started < 30 and str(error.value).count("\n") == 0


# --- a real cluster ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes, each with processes of its own."""
    ray, ray_cluster = pytest.importorskip("ray"), pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # at its own 15 workers got next to nothing beside other tests
        patch.setenv("RAY_agent_register_timeout_ms", "60000")  # at its own 15 s a raylet has crashed on a busy machine
        patch.delenv("RAY_ADDRESS", raising=False)
        made = ray_cluster.Cluster()
        small = {"object_store_memory": 80_000_000, "include_dashboard": False}
        try:
            _add(made, num_cpus=0, _system_config={"health_check_period_ms": 1000}, **small)
            for _ in range(2):
                _add(made, num_cpus=2, **small)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def _add(to: Any, **node: Any) -> Any:
    for attempt in range(4):
        try:
            return to.add_node(**node)
        except Exception as error:  # Ray gives a node 30 s to start, whatever else the machine does
            if "timed out during startup" not in str(error) or attempt == 3:
                raise


@pytest.fixture(scope="module")
def workers(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Two workers, one on each node, and their store; started once, as their processes import torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "Worker", ails.Worker)
        patch.setenv("RAY_ADDRESS", ray_cluster.address)
        with Workers(Store(tmp_path_factory.mktemp("shared") / "store")) as made:
            assert len(made._actors) == 2
            patch.undo()
            yield made


@pytest.fixture
def local(spec: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """What a sweep in this process records."""

    def run(changed: dict) -> list[Any]:
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("WORKBENCH_HOME", str(tmp_path / "local"))
            return results(sweep({**spec, **changed}, on=Bench(Store(None)), quiet=True))

    return run


def work(
    on: Workers, spec: dict, *, check: Callable[[Run], None] = lambda run: None, watcher: Shown | None = None
) -> Run:
    """What a sweep does with workers: make the cells that have no record yet."""
    planned = plan(spec, on.store)
    run = open_run(planned)
    left = [cell for cell in planned.cells if cell.index not in recorded(run)]
    on.work(left, Recorder(run, batch_of()), watcher or Shown(), batch=batch_of(), check=lambda: check(run))
    return run


def everyone(of: Workers, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What each worker answers, those that are being restarted too."""
    import ray
    from ray.exceptions import ActorUnavailableError

    for _ in range(120):
        try:
            return ray.get([actor.ask.remote(function, *arguments) for actor in of._actors])
        except ActorUnavailableError:
            time.sleep(0.5)
    raise TimeoutError


def once(enough: int, do: Callable[[], Any]) -> Callable[[Run], None]:
    """A check that does something when so many cells are recorded."""
    done = []

    def check(run: Run) -> None:
        if not done and len(recorded(run)) >= enough:
            done.append(do())

    return check


@pytest.mark.slow
def test_the_results_are_those_of_a_local_sweep(workers: Workers, spec: dict, local: Any) -> None:
    assert workers.ask(hardware.backend) == hardware.backend()
    assert len(set(everyone(workers, os.getpid)) | {os.getpid()}) == 3
    before, shown, calls = workers.counters(), Shown(), []
    started = time.monotonic()
    run = work(workers, spec, watcher=shown, check=lambda run: calls.append(time.monotonic()))
    seconds = time.monotonic() - started
    assert results(run) == local({}) and recorded(run) == list(range(24))
    assert len({line["pid"] for line in read_lines(run.journal) if line["kind"] == "stage"}) == 2  # both have worked
    # each stage once; where two workers share a family of CFGs each evaluates its first step
    ran = {group: Counter(now) - Counter(before[group]) for group, now in workers.counters().items()}
    assert ran["stages"] == {"base": 2, "refine": 8, "faces": 24}
    planned = plan(spec, Store(None)).to_json()["unet_evaluations"]
    assert ran["unet_evaluations"]["base"] == planned["base"]
    assert planned["refine"] <= ran["unet_evaluations"]["refine"] <= planned["refine"] + 4
    assert shown.finished == {"base": 2, "refine": 8, "faces": 24, "scores": 24, "measured": 34} and shown.steps
    # every 0.2 s, were it not for the other processes on these cores
    assert max(b - a for a, b in zip([started, *calls], calls, strict=False)) < 3 and len(calls) > 2 * seconds
    assert list((run.path / "claims").iterdir()) == []
    assert list((workers.store.place.path / "workers").iterdir()) == []  # type: ignore[union-attr]


@pytest.mark.slow
def test_what_is_in_the_store_is_not_made_again(workers: Workers, spec: dict, local: Any, tmp_path: Path) -> None:
    half = {"prompts": ["a face"], "seeds": [5]}
    work(workers, {**spec, **half})
    before = workers.counters()
    run = work(workers, {**spec, **half, "name": "again"})
    assert workers.counters()["stages"] == before["stages"] and workers.counters()["calls"] == before["calls"]
    assert results(run) == local(half) and recorded(run) == list(range(12))


@pytest.mark.slow
def test_stopped_it_goes_on(workers: Workers, spec: dict, local: Any) -> None:
    def stop(run: Run) -> None:
        if len(recorded(run)) >= 5:
            raise Cancelled("enough")

    changed = {**spec, "seeds": [7]}
    with pytest.raises(Cancelled, match="enough"):
        work(workers, changed, check=stop)
    done = recorded(open_run(plan(changed, workers.store)))
    assert 5 <= len(done) < 24
    assert len(everyone(workers, os.getpid)) == 2  # they have stopped: they answer
    assert recorded(open_run(plan(changed, workers.store))) == done
    run = work(workers, changed)
    assert recorded(run) == list(range(24)) and results(run) == local({"seeds": [7]})


@pytest.mark.slow
def test_a_worker_whose_pictures_are_others_refuses(
    workers: Workers, spec: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_THREADS", "2")  # here; the workers were started with 1
    with pytest.raises(OtherPictures) as error:
        work(workers, {**spec, "seeds": [9]})
    assert "the device is cpu, 1 thread there and cpu, 2 threads here." in str(error.value)
    assert recorded(open_run(plan({**spec, "seeds": [9]}, workers.store))) == []
    monkeypatch.setenv("WORKBENCH_THREADS", "1")
    monkeypatch.setattr(cluster, "facts", lambda s=None: facts(s) | {"the score sharpness": "blur-next"})
    with pytest.raises(OtherPictures, match=r"the score sharpness is \S+ there and blur-next here"):
        work(workers, {**spec, "seeds": [9]})


@pytest.mark.slow
def test_errors_come_out_as_they_are(workers: Workers, spec: dict, tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    changed = {**spec, "fixed": {**spec["fixed"], "model": str(model)}}

    def lose(run: Run) -> None:
        if (model / "restorer").exists():
            shutil.rmtree(model / "restorer")

    with pytest.raises(MissingWeights) as error:
        work(workers, changed, check=lose)
    assert type(error.value) is MissingWeights and str(error.value).startswith(
        "CodeFormer's weights are not there; put"
    )

    def too_large() -> None:
        raise SmallerBatch("refine", 2)

    with pytest.raises(SmallerBatch) as smaller:
        workers.ask(too_large)
    assert type(smaller.value) is SmallerBatch and smaller.value.size == 2
    with pytest.raises(ZeroDivisionError):
        workers.ask(lambda: 1 / 0)


@pytest.mark.slow
def test_a_store_that_workers_do_not_see(workers: Workers, spec: dict, home: Path) -> None:
    elsewhere = Workers(Store(home / "only here"))
    elsewhere._actors, elsewhere._hub = workers._actors, workers._hub
    with pytest.raises(StoreNotShared, match=r"does not see the store .*; let WORKBENCH_STORE name a folder"):
        work(elsewhere, {**spec, "seeds": [9]})
    elsewhere.store = Store(None)
    with pytest.raises(StoreNotShared, match="in memory"):
        work(elsewhere, {**spec, "seeds": [9]})


@pytest.mark.slow
def test_a_killed_worker_is_replaced(workers: Workers, spec: dict, local: Any) -> None:
    pids = everyone(workers, os.getpid)
    run = work(workers, {**spec, "seeds": [11]}, check=once(4, lambda: os.kill(pids[0], signal.SIGKILL)))
    assert recorded(run) == list(range(24)) and results(run) == local({"seeds": [11]})
    again = everyone(workers, os.getpid)
    assert again[0] != pids[0] and again[1] == pids[1]


@pytest.mark.slow
def test_a_group_that_kills_its_workers_fails_and_the_rest_goes_on(workers: Workers, spec: dict, local: Any) -> None:
    small = {
        "prompts": ["a face"],
        "seeds": [15],
        "axes": {"strength": [0.3, 0.5], "refine_cfg": [2.0, 6.0]},
        "fixed": {**spec["fixed"], "restorer": "none"},
    }
    with ails.ailing(workers.store, "deadly"):
        run = work(workers, {**spec, **small})
    assert run.states() == {"done": 0, "no_face": 3, "failed": 1, "to_do": 0}
    (failed,) = (record for record in run.records() if record["status"] == "failed")
    assert (failed["settings"]["strength"], failed["settings"]["refine_cfg"]) == (0.3, 6.0)
    assert str(failed["reason"]).startswith("refine: 3 workers have died while they ran it; the last one: ")
    good = [result for result in local(small) if result[0] != failed["cell"]]
    assert [(r["cell"], r["pixels_sha256"]) for r in run.records() if r is not failed and r["status"] != "failed"] == [
        (result[0], result[3]) for result in good
    ]


@pytest.mark.slow
def test_a_batch_is_halved_on_workers_that_are_other_machines(
    workers: Workers, spec: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver made the new keys itself; its own machine's, so that the workers refused and the sweep died."""
    monkeypatch.setattr("workbench.sweeps.cluster.Workers", lambda store: nullcontext(workers))
    everyone(workers, os.getpid)  # those that died above are back
    store, kept = workers.store, set[str]()
    wanted = {**spec, "prompts": ["a face"], "executor": "ray", "batch_size": 4}

    def look() -> None:
        kept.update(store.pinned())

    with monkeypatch.context() as laptop, ails.ailing(store, "small card"):
        laptop.setattr(hardware, "backend", lambda: "a laptop")
        run = sweep(wanted, on=Bench(store), quiet=True, check=look)
    assert run.states() == {"done": 0, "no_face": 12, "failed": 0, "to_do": 0} and recorded(run) == list(range(12))
    assert run.batch() == {"base": 4, "refine": 2, "detail": 4}
    made = {key for record in run.records() for key in record["keys"].values()}
    assert made <= kept  # what the workers make is kept from eviction, under their keys
    assert [r["key"] for r in run.records()] == [
        next(reversed(stage_keys(Settings(**r["settings"]), {"base": 4, "refine": 2}).values())) for r in run.records()
    ]
    lines = len(read_lines(run.journal))
    sweep({**wanted, "executor": "local"}, on=Bench(store), quiet=True)
    assert len(read_lines(run.journal)) == lines  # this machine is as the workers: nothing is left to do


@pytest.mark.slow
def test_where_no_worker_can_start_it_says_so(
    ray_cluster: Any, workers: Workers, spec: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    class Tenant:
        def there(self) -> bool:
            return True

    tenants: list[Any] = [ray.remote(num_cpus=1)(Tenant).remote() for _ in range(2)]
    ray.get([tenant.there.remote() for tenant in tenants])
    monkeypatch.setattr(cluster, "PATIENCE", 2.0)
    try:
        with (
            Workers(workers.store, address=ray_cluster.address) as others,
            pytest.raises(NoWorkers, match=r"no worker runs on the Ray cluster \(none has started\); look with"),
        ):
            work(others, {**spec, "seeds": [9]})
    finally:
        for tenant in tenants:
            ray.kill(tenant)


@pytest.mark.slow
def test_a_lost_node_is_made_up_for(ray_cluster: Any, workers: Workers, spec: dict, local: Any) -> None:
    """The last test: afterwards one node is left."""
    victim = ray_cluster.worker_nodes[0] if isinstance(ray_cluster.worker_nodes, list) else None
    victim = victim or next(iter(ray_cluster.worker_nodes))
    run = work(
        workers,
        {**spec, "seeds": [13]},
        check=once(4, lambda: ray_cluster.remove_node(victim, allow_graceful=False)),
    )
    assert recorded(run) == list(range(24)) and results(run) == local({"seeds": [13]})
    assert run.states()["failed"] == 0 and len(ray_cluster.worker_nodes) == 1
