"""One worker thread that always works on the newest request. Older ones are dropped, and the one at work is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from workbench.errors import Cancelled

T = TypeVar("T")


class Latest(Generic[T]):
    """Runs `work(request)` on a thread of its own for the newest request only.

    `work` calls `check` often (a `Report` does, within every denoising step) and hands all it shows through `show`; both
    raise `Cancelled` once a newer request is there or `cancel` was called, so that nothing stale is ever shown.

    Attributes:
        started: requests that were begun.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        failed: Callable[[Exception], None],
        idle: Callable[[bool], None],
        settle: float = 0.0,
    ) -> None:
        """`failed(error)` gets what `work` raises other than `Cancelled`, where no newer request waits; `idle(cancelled)` is
        called when all is done.

        A request is begun when no newer one has come for `settle` seconds: a dragged slider sends one every 20 ms.
        """
        self._work, self._failed, self._idle, self._settle = work, failed, idle, settle
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._pending: list[T] = []  # none or one
        self._stop = threading.Event()  # the request in hand is to be given up
        self._cancelled = False
        self._submitted = 0.0
        self._busy = False
        self.started = 0
        threading.Thread(target=self._loop, daemon=True, name="workbench-tuner").start()

    def submit(self, request: T) -> None:
        """Work on this next; returns at once."""
        with self._lock:
            self._pending = [request]
            self._submitted = time.monotonic()
            self._cancelled = False
            self._stop.set()
            self._ready.notify_all()

    def cancel(self) -> None:
        """Give up the request at work and the one that waits; returns at once."""
        with self._lock:
            self._pending = []
            self._cancelled = True
            self._stop.set()
            self._ready.notify_all()

    @property
    def busy(self) -> bool:
        with self._lock:
            return self._busy or bool(self._pending)

    def check(self) -> None:
        """Raise `Cancelled` if the request at work is no longer the newest."""
        if self._stop.is_set():
            raise Cancelled("a newer value came, or it was cancelled.")

    def show(self, paint: Callable[[], None]) -> None:
        """Call `paint`; no newer request is taken meanwhile. Raises `Cancelled` if the one at work is not the newest."""
        with self._lock:
            self.check()
            paint()

    def rest(self, seconds: float) -> None:
        """Wait until no request has come for `seconds`. Raises `Cancelled` when one comes."""
        with self._lock:
            while (left := self._submitted + seconds - time.monotonic()) > 0:
                self._ready.wait(left)
                self.check()

    def wait(self, timeout: float = 600.0) -> bool:
        """Wait until nothing is left to do; False if that takes longer than `timeout` seconds. For scripts and tests."""
        with self._lock:
            return self._ready.wait_for(lambda: not self._busy and not self._pending, timeout)

    def _loop(self) -> None:
        while True:
            with self._lock:
                self._ready.wait_for(lambda: bool(self._pending))
                if (left := self._submitted + self._settle - time.monotonic()) > 0:
                    self._ready.wait(left)
                    continue
                request = self._pending.pop()
                self._stop.clear()
                self._busy = True
                self.started += 1
            try:
                self._work(request)
            except Cancelled:
                pass
            except Exception as error:
                with self._lock:
                    if not self._pending:  # else it is of a request that nobody asks for any more
                        self._failed(error)
            with self._lock:
                if not self._pending:
                    # while it is still busy: who waits for it must find the panel as it will stay
                    self._idle(self._cancelled)
                    self._busy = False
                    self._ready.notify_all()
