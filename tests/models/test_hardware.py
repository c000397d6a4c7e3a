import threading

import pytest
import torch

from workbench.errors import UsageError
from workbench.models import hardware


def test_threads_are_pinned_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_THREADS", "2")
    with hardware.pinned_threads():
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("WORKBENCH_THREADS", "many")
    with pytest.raises(UsageError, match="whole number"):
        hardware.threads()


def test_pinning_in_one_thread_leaves_the_others_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads overlap: the one that leaves last must not hand its pinned number to threads that are still to come."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    pinned, leave, seen = threading.Event(), threading.Event(), []

    def late() -> None:
        with hardware.pinned_threads():
            with hardware.pinned_threads():
                pass
            seen.append(torch.get_num_threads())
            pinned.set()
            leave.wait(20)
        seen.append(torch.get_num_threads())

    try:
        thread = threading.Thread(target=late)
        with hardware.pinned_threads():
            thread.start()
            pinned.wait(20)
        leave.set()
        thread.join()
        after = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        after.start()
        after.join()
        assert seen == [1, 2, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_memory_to_be_taken_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.memory_limit() is None and hardware.usable_memory() is None  # on a CPU there is no other number
    monkeypatch.setenv("WORKBENCH_MAX_MEMORY", "12GiB")
    assert hardware.usable_memory() == 12 * 2**30
    monkeypatch.setattr(hardware, "free_memory", lambda: 2**33)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda where: 2**30)
    assert hardware.usable_memory() == 9 * 2**30  # no more than there is


@pytest.mark.parametrize(("text", "said"), [("a lot", "MAX_MEMORY = 'a lot' is not a size"), ("0", "leaves no memory")])
def test_a_limit_that_is_none_is_refused(text: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_MAX_MEMORY", text)
    with pytest.raises(UsageError, match=said):
        hardware.memory_limit()
