"""Runs tasks on the machines of a Ray cluster: one worker for each GPU, and one hub beside the run's folder.

The hub hands out tasks, and it alone writes into the run's folder, so that the machines share nothing but the store.
When a worker dies, another one takes over its tasks.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import NoCluster, NoWorkers, OtherPictures, StoreNotShared
from workbench.files import home
from workbench.store import Store

from ..engine import Watcher
from ..likeness import differing, facts
from ..planning import Cell
from ..recording import Recorder
from .hub import Counts, Hub, News, added
from .worker import Differs, Handle, Result, Worker, answer, first_line, from_hub, load_ray

WAIT = 0.1  # s between two looks of the driver
AGAIN = 1.0  # s until a worker that has died is called again: while it restarts, calls fail at once
PATIENCE = 120.0  # s without any worker until the sweep gives up; importing torch takes 8 s on a busy machine
GRACE = 60.0  # s in which workers end the step they are in when a sweep is stopped: one of a full batch at 1536 px takes 2 s
REACH = 5.0  # s to reach an address; ray.init itself was still trying after 100
CALLS = 64  # calls that the hub answers side by side: writing a picture must not hold up the others
OBJECTS = 256_000_000  # bytes of the object store where we start Ray: pictures pass through it, none stays


class Workers:
    """The workers of a cluster, as a context manager: they start with it, and keep their models until it ends.

    One for each GPU of the cluster, always a whole one; where it has none, or $WORKBENCH_DEVICE is cpu, one for each
    node with a CPU. Connects to `address`, else to $RAY_ADDRESS, else starts Ray on this machine alone.
    """

    def __init__(self, store: Store, *, address: str | None = None, count: int | None = None) -> None:
        """`count`: the most workers there shall be."""
        self.store, self._count = store, count
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._ours = False
        self._actors: list[Handle] = []
        self._hub: Handle = None
        self._before, self._now = added([]), added([])

    def __enter__(self) -> Workers:
        self._ours = _connect(self._address)
        try:
            self._actors, self._hub = self._start(), _start_hub()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        ray = load_ray()
        for actor in [*self._actors, *([self._hub] if self._hub else [])]:
            ray.kill(actor)
        self._actors, self._hub = [], None
        if self._ours:
            ray.shutdown()

    def ask(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call `function(*arguments)` on all workers and return the first answer: `ask(hardware.backend)` names their device.

        Raises what the function raises, and `NoWorkers`.
        """
        calls = [actor.ask.remote(function, *arguments) for actor in self._actors]
        ready, _ = load_ray().wait(calls, num_returns=1, timeout=PATIENCE)
        if not ready:
            raise NoWorkers(_no_workers("none has answered"))
        return answer(ready[0])

    def counters(self) -> Counts:
        """What all workers have run since they were started; as `Bench.counters`."""
        return added([self._before, self._now])

    def work(
        self,
        cells: list[Cell],
        recorder: Recorder,
        watcher: Watcher,
        *,
        batch: Mapping[str, int],
        check: Callable[[], None],
    ) -> None:
        """Make these cells, and record them in the run of `recorder`. Returns when each has its record.

        `check` is called at least every 0.2 s; when it raises, the workers stop within a denoising step and what they
        have finished is kept. Raises what `Engine.run` does, `StoreNotShared`, `OtherPictures`, `NoWorkers`, `HubLost`.
        """
        place, marker = self.store.place, f"workers/{uuid.uuid4().hex}"
        if place is None:
            raise StoreNotShared(
                "a store in memory cannot be shared; give the sweep one in a folder or at an fsspec URL."
            )
        stored = {key for key in {key for cell in cells for key in cell.keys.values()} if key in self.store}
        place.write(marker, b"seen by all workers\n")
        shift = _Shift(self._actors, self._hub, (recorder, cells, stored), batch, marker)
        try:
            while not shift.over:
                check()
                shift.tend()
                self._tell(shift, watcher)
        except Differs as error:
            host, there, settings = error.args
            raise OtherPictures(differing(host, there, facts(settings))) from None
        finally:
            try:
                shift.end()
                self._tell(shift, watcher if shift.over else None)
            finally:
                self._before, self._now = self.counters(), added([])
                place.drop(marker)

    def _tell(self, shift: _Shift, watcher: Watcher | None) -> None:
        news = shift.news()
        if not news:
            return
        self._now = news["counts"]
        if watcher and news["step"]:
            watcher.step(*news["step"])
        for event, arguments in news["events"]:
            if watcher:
                getattr(watcher, event)(*arguments)

    def _start(self) -> list[Handle]:
        ray = load_ray()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        on_gpus = gpus > 0 and os.environ.get("WORKBENCH_DEVICE") != "cpu"
        there = gpus if on_gpus else sum(node.get("CPU", 0) >= 1 for node in nodes)
        if not there:
            raise NoWorkers(_no_workers("it has neither a GPU nor a CPU"))
        # a part of a GPU isolates nothing: two such workers fill one card and leave another one idle
        needs = {"num_gpus": 1} if on_gpus else {"num_cpus": 1}
        make = ray.remote(Worker).options(
            **needs,
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=0,  # we call run() again ourselves, after what the dead one held is free
            runtime_env={"env_vars": _environment(self.store)},
        )
        return [make.remote(self.store) for _ in range(min(there, self._count or there))]


class HubProcess:
    """The process of the hubs, one hub for each call of `Workers.work`. Importing Ray takes it 8 s on a busy machine, so it
    starts once."""

    def open(self, recorder: Recorder, cells: list[Cell], stored: set[str], name: str) -> None:
        self._hub = Hub(recorder, cells, stored, name)

    def call(self, name: str, *arguments: object) -> Any:
        return getattr(self._hub, name)(*arguments)


class _Shift:
    """The workers during one call of `Workers.work`: which are running, and which have died and are to be called again."""

    def __init__(
        self,
        actors: list[Handle],
        hub: Handle,
        about: tuple[Recorder, list[Cell], set[str]],
        batch: Mapping[str, int],
        marker: str,
    ) -> None:
        self.over = False
        self._name = uuid.uuid4().hex[:8]
        self._hub, self._opening = hub, hub.open.remote(*about, self._name)
        self._actors, self._rest = actors, (dict(batch), marker, facts())
        self._running: dict[Handle, tuple[int, str]] = {}  # {call of run(): (which worker, its token)}
        self._due = dict.fromkeys(range(len(actors)), 0.0)  # {worker that is to be called: when}
        self._begun: set[str] = set()
        self._why = "none has started"
        self._seen = time.monotonic()  # when a worker was last there

    def tend(self) -> None:
        """Wait a little, then call again the workers that have died meanwhile."""
        ray, now = load_ray(), time.monotonic()
        if self._opening:
            if ray.wait([self._opening], timeout=WAIT)[0]:
                from_hub(self._opening)
                self._opening = None
            return
        for which in [which for which, when in self._due.items() if when <= now]:
            del self._due[which]
            token = f"{self._name} {which} {now}"
            self._running[self._actors[which].run.remote(self._hub, token, *self._rest)] = (which, token)
        if self._begun:
            self._seen = now
        elif now - self._seen > PATIENCE:
            raise NoWorkers(_no_workers(self._why))
        if not self._running:
            time.sleep(WAIT)
            return
        for call in ray.wait(list(self._running), num_returns=1, timeout=WAIT)[0]:
            which, token = self._running.pop(call)
            try:
                answer(call)
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:  # the worker's process, its node or the way to it is lost
                if self._ask("drop", token, first_line(error)):
                    self._why = first_line(error)
                self._due[which] = time.monotonic() + AGAIN

    def news(self) -> News | None:
        """See `Hub.news`; None before the hub is there."""
        if self._opening:
            return None
        news = self._ask("news")
        self.over, self._begun = news["over"], news["begun"]
        return news

    def end(self) -> None:
        """Tell all workers to stop, and wait for those that have begun: they do within a denoising step."""
        if self._opening:
            return
        begun = self._begun if self.over else self._ask("stop")
        at_work = [call for call, (_, token) in self._running.items() if token in begun]
        if at_work:
            load_ray().wait(at_work, num_returns=len(at_work), timeout=GRACE)
        self._ask("close")

    def _ask(self, name: str, *arguments: object) -> Any:
        return from_hub(self._hub.call.remote(name, *arguments))


def _no_workers(why: str) -> str:
    return (
        f"no worker runs on the Ray cluster ({why}); look with `ray status` whether its machines are up and their GPUs "
        "free, then run the same command again, which goes on."
    )


def _start_hub() -> Handle:
    """A hub's process on this machine, where the run's folder is."""
    ray = load_ray()
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    options = {"num_cpus": 0, "max_concurrency": CALLS, "scheduling_strategy": here}
    return ray.remote(HubProcess).options(**options).remote()


def _environment(store: Store) -> dict[str, str]:
    """What a worker's keys and files depend on, as it is here; GPUs are numbered by Ray, so a worker's one is cuda:0."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(("WORKBENCH_", "HF_HUB_", "OMP_"))}
    ours |= {"WORKBENCH_HOME": str(home()), "WORKBENCH_STORE": str(store.folder)}
    if "WORKBENCH_DEVICE" in ours:
        ours["WORKBENCH_DEVICE"] = ours["WORKBENCH_DEVICE"].partition(":")[0]
    return ours


def _connect(address: str) -> bool:
    """Join a cluster; whether that has to be undone at the end. Raises `NoCluster`, `RayMissing`."""
    ray = load_ray()
    if ray.is_initialized():
        return False
    refusal = (
        f"no Ray cluster answers at {address} ({{}}); start one with `ray start --head`, name it in RAY_ADDRESS, and "
        "run this on one of its machines, or use executor 'local'."
    )
    if "://" in address:
        raise NoCluster(refusal.format("through Ray's client, the results could not be written here"))
    if ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), REACH).close()
        except (OSError, ValueError) as error:
            raise NoCluster(refusal.format(error)) from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # when one worker's error is raised, another's is printed
    size = {"object_store_memory": OBJECTS, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **size)
    except Exception as error:  # a bare Exception where a busy machine has taken over 30 s to start Ray
        raise NoCluster(refusal.format(first_line(error))) from error
    return True
