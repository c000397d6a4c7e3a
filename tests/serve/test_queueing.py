"""Who waits for a picture, and whose turn is next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from workbench.errors import Cancelled, OutOfMemory, QueueFull, ServerStopping
from workbench.presets import Preset
from workbench.recipe import Bench, Result
from workbench.serve.queueing import Order, PictureProgress, PictureQueue
from workbench.settings import Settings
from workbench.store import Store

BASE = Settings(width=64, height=64)
PRESET = Preset("p", BASE)


class Steps(Bench):
    """A bench whose pictures take as many steps as the test lets them."""

    def __init__(self) -> None:
        super().__init__(Store(None))
        self.step = threading.Semaphore(0)
        self.begun: list[int] = []
        self.fails: BaseException | None = None

    def generate(
        self, settings: Settings, report: Callable[[str, int, int], None], *_: object, **_more: object
    ) -> Result:  # type: ignore[override]
        self.begun.append(settings.seed)
        if self.fails:
            raise self.fails
        for i in range(2):
            report("base", i, 2)
            assert self.step.acquire(timeout=10)
        return Result(None, {}, settings, {"stages": dict.fromkeys(settings.stages, 1)}, {})  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Steps:
    return Steps()


def order(client: str, seed: int, told: Callable[[PictureProgress], None] = lambda _: None, n: int = 1) -> Order:
    return Order(PRESET, tuple(BASE.replace(seed=seed + i) for i in range(n)), client, told)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_turns_go_round_among_clients(bench: Steps) -> None:
    queue = PictureQueue(bench)
    orders = [order("a", 0), order("a", 1), order("a", 2), order("b", 10), order("c", 20)]
    queue.put(orders[0])
    until(lambda: bench.begun == [0])
    for each in orders[1:]:
        queue.put(each)
    assert [queue.progress(each).place for each in orders] == [0, 1, 4, 2, 3]
    bench.step.release(10)
    for each in orders:
        each.made.result(10)
    assert bench.begun == [0, 1, 10, 20, 2]
    assert queue.counts["made"] == 5


def test_whoever_leaves_is_not_begun_or_is_stopped_within_a_step(bench: Steps) -> None:
    queue = PictureQueue(bench)
    first, second, third = order("a", 0, n=2), order("b", 10), order("c", 20)
    for each in (first, second, third):
        queue.put(each)
    until(lambda: bench.begun == [0])
    second.leave()
    first.leave()
    bench.step.release()  # the step that was begun; at the next one it is seen
    until(lambda: bench.begun == [0, 20])
    with pytest.raises(Cancelled):
        first.made.result(1)
    bench.step.release(2)
    assert len(third.made.result(10)) == 1
    assert second.made.cancelled()
    assert queue.counts == {"made": 1, "left": 2, "failed": 0, "refused": 0}


def test_a_full_queue_says_when_to_come_back(bench: Steps) -> None:
    queue = PictureQueue(bench, limit=3, per_client=2)
    for client, seed in (("a", 0), ("a", 1), ("a", 2)):
        queue.put(order(client, seed))
        until(lambda: bool(bench.begun))
    with pytest.raises(QueueFull, match="2 of your own pictures wait already; ask again in 20 s") as mine:
        queue.put(order("a", 3))
    queue.put(order("b", 4))
    with pytest.raises(QueueFull, match="3 pictures wait already; ask again in 10 s") as all_of_them:
        queue.put(order("c", 5))
    assert (mine.value.yours, all_of_them.value.yours) == (True, False)
    queue.close()
    bench.step.release()


def test_the_time_left_goes_by_the_work_of_all_pictures_before(bench: Steps) -> None:
    queue = PictureQueue(bench)
    first, second = order("a", 0, n=2), order("b", 10, n=3)
    bench.step.release(2)
    queue.put(first)
    until(lambda: bench.begun == [0, 1])
    queue.put(second)
    large = Order(PRESET, (BASE.replace(width=512, height=512),), "c")
    small = queue.seconds_of(second)
    assert queue.seconds_of(large) > 10 * small
    assert queue.progress(second).eta == pytest.approx(4 * small)
    bench.step.release(8)
    second.made.result(10)


def test_the_progress_says_which_picture_is_made(bench: Steps) -> None:
    said: list[tuple[int, int]] = []
    queue = PictureQueue(bench)
    two = order("a", 0, lambda progress: said.append((progress.picture, progress.done)), n=2)
    queue.put(two)
    bench.step.release(4)
    two.made.result(10)
    assert said == [(1, 0), (1, 1), (2, 0), (2, 1)]
    queue.close()


def test_whoever_leaves_while_it_is_answered_takes_nobody_along(bench: Steps) -> None:
    """The thread died of it, and everybody after waited for ever."""
    queue = PictureQueue(bench)
    gone = order("a", 0)

    class Leaving(type(gone.made)):  # type: ignore[misc]
        def set_result(self, result: list[Result]) -> None:
            self.set_exception(Cancelled("first"))
            super().set_result(result)

    gone.made = Leaving()
    bench.step.release(4)
    queue.put(gone)
    after = order("a", 1)
    queue.put(after)
    assert len(after.made.result(10)) == 1
    assert queue.works


@pytest.mark.parametrize("error", [OutOfMemory("too large"), ValueError("unforeseen /home/me/x")])
def test_one_picture_that_fails_takes_nobody_along(bench: Steps, error: Exception) -> None:
    queue = PictureQueue(bench)
    bench.fails = error
    bad = order("a", 0)
    queue.put(bad)
    found = bad.made.exception(10)
    assert found is error if isinstance(error, OutOfMemory) else str(found) == "the server failed"
    bench.fails = None
    bench.step.release(2)
    good = order("a", 1)
    queue.put(good)
    assert len(good.made.result(10)) == 1


def test_at_the_end_what_waits_is_refused_and_what_is_made_stops(bench: Steps) -> None:
    queue = PictureQueue(bench)
    now, waiting = order("a", 0), order("a", 1)
    queue.put(now)
    until(lambda: bench.begun == [0])
    queue.put(waiting)
    queue.close()
    with pytest.raises(ServerStopping):
        waiting.made.result(1)
    bench.step.release()
    assert queue.join(5)
    with pytest.raises(ServerStopping):
        now.made.result(1)
    with pytest.raises(ServerStopping):
        queue.put(order("a", 2))
