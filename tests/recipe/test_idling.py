"""Who computes nothing leaves the device to others, and comes back."""

from __future__ import annotations

import threading
import time

import pytest
from support.card import weights

from workbench.errors import UsageError
from workbench.files import pixels_sha256
from workbench.models import Residency, hardware
from workbench.recipe import Bench, idling, memory_plan
from workbench.settings import Settings
from workbench.store import Store


class Held:
    """Networks that were used so many seconds ago."""

    def __init__(self, seconds: float) -> None:
        self.used, self.left = time.time() - seconds, 0

    def unload(self) -> bool:
        self.left += 1
        return True


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> set[idling.Unloadable]:
    """Nobody looks but the test."""
    found: set[idling.Unloadable] = set()
    monkeypatch.setattr(idling, "_watched", found)
    monkeypatch.setattr(idling, "_thread", threading.current_thread())
    return found


def test_idle_networks_leave_after_a_while_and_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_IDLE_MINUTES", "2")
    idle, busy = Held(121), Held(60)
    for held in (idle, busy):
        idling.watch(held)
    idling.look()
    assert (idle.left, busy.left) == (1, 0)


def test_who_is_asked_leaves_at_once_unless_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_IDLE_MINUTES", "60")
    idle, at_work = Held(20), Held(1)
    for held in (idle, at_work):
        idling.watch(held)
    idling.look()
    assert idle.left == 0
    assert not idling.ask_for_memory(lambda: False, seconds=0)
    idling.look()
    assert (idle.left, at_work.left) == (1, 0)
    assert idling.ask_for_memory(lambda: True)


def test_on_a_cpu_nothing_leaves_by_itself(watched: set[idling.Unloadable], monkeypatch: pytest.MonkeyPatch) -> None:
    idling.watch(Held(1e9))
    assert watched == set() and idling.idle_minutes() is None
    for text in ("soon", "0", "nan"):
        monkeypatch.setenv("WORKBENCH_IDLE_MINUTES", text)
        with pytest.raises(UsageError, match="number of minutes above 0"):
            idling.idle_minutes()


def test_networks_that_left_come_back_with_the_same_pixels(
    tiny: Settings, bench: Bench, watched: set[idling.Unloadable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_IDLE_MINUTES", "1")
    s = tiny.replace(steps=2, refine_steps=5)
    other = s.replace(seed=9)
    bench.generate(s)
    diffusion = bench.diffusion(s)
    assert watched == {diffusion} and weights(bench)
    with diffusion._turn:
        stranger = threading.Thread(target=idling.look)
        diffusion.used = 0.0
        stranger.start()
        stranger.join(20)
        assert weights(bench)  # they are at work
    idling.look()
    assert not weights(bench)
    monkeypatch.delenv("WORKBENCH_IDLE_MINUTES")
    assert pixels_sha256(bench.generate(other).image) == pixels_sha256(Bench(Store(None)).generate(other).image)


def test_others_are_asked_only_where_the_card_is_too_full(tiny: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [2**40]
    monkeypatch.setattr(memory_plan, "ask_for_memory", lambda enough: free.append(1 if enough() else 0))
    memory_plan.make_room(tiny)
    monkeypatch.setattr(hardware, "free_memory", lambda: free[0])
    monkeypatch.setattr(hardware, "usable_memory", lambda: free[0])
    memory_plan.make_room(tiny)
    assert free == [2**40]
    free[0] = 1
    memory_plan.make_room(tiny)
    assert free == [1, 0] and memory_plan.residency_of(tiny) is Residency.ONE_NETWORK
