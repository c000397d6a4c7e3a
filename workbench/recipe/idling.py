"""A process that computes nothing lets go of the device: after a while, or when another one on this machine asks for memory.

Its networks leave the device and come back at their next use, which changes no pixel. Asking is touching a file under
$WORKBENCH_HOME, at which every process with networks on a GPU looks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from workbench.errors import UsageError
from workbench.files import home, write_atomic
from workbench.models import hardware

MINUTES = 10.0  # that nothing is computed before networks leave a GPU
SETTLED = 5.0  # seconds since the last step after which a process that is asked counts as idle
LOOK = 1.0  # seconds between two looks


class Unloadable(Protocol):
    """Networks on a device. `used`: when they last worked, by `time.time`."""

    used: float

    def unload(self) -> bool: ...


_watched: WeakSet[Unloadable] = WeakSet()
_starting = threading.Lock()
_thread: threading.Thread | None = None


def idle_minutes() -> float | None:
    """After how many minutes without work networks leave the device: $WORKBENCH_IDLE_MINUTES ("never", or a number above 0),
    else `MINUTES` on a GPU. None: never, as on a CPU. Raises `UsageError`."""
    text = os.environ.get("WORKBENCH_IDLE_MINUTES", "").strip()
    if not text:
        return None if hardware.device().type == "cpu" else MINUTES
    if text == "never":
        return None
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise UsageError(f"WORKBENCH_IDLE_MINUTES is '{text}'; it must be a number of minutes above 0, or never.")
    return minutes


def watch(networks: Unloadable) -> None:
    """Unload these networks when they are idle, as long as anybody has them. Does nothing where networks never leave.

    Raises `UsageError`.
    """
    global _thread
    if idle_minutes() is None:
        return
    with _starting:
        _watched.add(networks)
        if _thread is None:
            _thread = threading.Thread(target=_go, name="workbench-idle", daemon=True)
            _thread.start()


def look() -> None:
    """Unload what is idle now."""
    minutes, asked, now = idle_minutes(), _asked(), time.time()
    for networks in list(_watched):
        idle = now - networks.used
        if minutes is not None and (idle > 60 * minutes or (asked > networks.used and idle > SETTLED)):
            networks.unload()


def ask_for_memory(enough: Callable[[], bool], seconds: float = 3 * LOOK) -> bool:
    """Ask the other processes of this machine that compute nothing to let go of the device; whether there is enough now.

    Waits for that, but no longer than `seconds`.
    """
    write_atomic(_wish(), b"")
    until = time.monotonic() + seconds
    while not enough():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _go() -> None:
    while True:
        time.sleep(LOOK)
        look()


def _wish() -> Path:
    return home() / "store" / "memory-wanted"


def _asked() -> float:
    """When somebody asked last, by `time.time`; 0 where nobody has."""
    try:
        return _wish().stat().st_mtime
    except OSError:
        return 0.0
