"""Who waits for a picture, whose turn is next, and who has left: one thread makes one picture at a time.

The device holds one picture at a time. A UNet batch would have room for several, but changes the last bits of each (1.8e-4 at
the end of a run), and a served picture is to be the very one that was promoted; so requests share no batch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

from PIL import Image

from workbench.errors import Cancelled, OutOfMemory, QueueFull, ServerStopping, UsageError, WorkbenchError
from workbench.presets import Preset
from workbench.recipe import Bench, Result
from workbench.settings import Settings
from workbench.store import Artefact
from workbench.sweeps import work_units

log = logging.getLogger("workbench.serve")
USUAL = 10.0  # s that a picture is taken to take before the first one was made
Told = Callable[["PictureProgress"], None]


def _nothing(progress: PictureProgress) -> None:
    pass


@dataclass(frozen=True)
class PictureProgress:
    """How far a picture is.

    Attributes:
        place: how many are made before it is begun; 0 once it is being made.
        stage: the stage that runs; "" while it waits.
        done, total: of the stage's steps, faces or tiles.
        eta: seconds until it is finished, by what others took.
        preview: the picture after a stage that has just ended; while it is denoised a small one of what it will be.
        picture: which of the order's pictures is made, from 1; 0 while it waits.
    """

    place: int
    stage: str = ""
    done: int = 0
    total: int = 0
    eta: float = 0.0
    preview: Image.Image | None = None
    picture: int = 0


@dataclass(eq=False)
class Order:
    """A request for pictures: what to make, for whom, and what came of it.

    Attributes:
        client: who asks; turns go round among them.
        each: settings of each picture, all different in their seed alone.
        told: called on the thread that makes pictures, whenever there is something to tell.
        made: resolved with a result for each.
        results: those that there are so far.
        latest: what was told last.
        preview: that was told last, of the picture that is being made.
    """

    preset: Preset
    each: tuple[Settings, ...]
    client: str
    told: Told = _nothing
    made: Future[list[Result]] = field(default_factory=Future[list[Result]])
    left: threading.Event = field(default_factory=threading.Event)
    skipped: threading.Event = field(default_factory=threading.Event)
    since: float = field(default_factory=time.monotonic)
    results: list[Result] = field(default_factory=list)
    latest: PictureProgress = PictureProgress(0)
    preview: Image.Image | None = None

    @cached_property
    def work(self) -> float:
        """Units of work of each of its pictures. Asked for by everybody behind it, once a second."""
        s = self.each[0]
        return sum(work_units(stage, s) for stage in s.stages)

    def leave(self) -> None:
        """Whoever asked is gone: it is not begun any more, or stopped within one denoising step."""
        self.left.set()

    def skip(self) -> None:
        """Stop the picture that is being made within one denoising step, and go on with the next one of this order."""
        self.skipped.set()

    def check(self) -> None:
        """Raises `Cancelled` where nobody wants the picture any more."""
        if self.left.is_set() or self.skipped.is_set():
            raise Cancelled("whoever asked has left.")

    def tell(self, progress: PictureProgress) -> None:
        self.latest, self.preview = progress, progress.preview or self.preview
        self.told(progress)


class PictureQueue:
    """Orders that wait, of at most `limit` and `per_client`; turns go round among clients.

    Attributes:
        counts: {"made", "left", "failed", "refused": how many orders}.
    """

    def __init__(self, bench: Bench, *, limit: int = 32, per_client: int = 8) -> None:
        self.bench, self.limit, self.per_client = bench, limit, per_client
        self.counts = dict.fromkeys(("made", "left", "failed", "refused"), 0)
        self._rates: deque[float] = deque(maxlen=9)  # seconds of a unit of work, of the newest pictures
        self._waiting: dict[str, deque[Order]] = {}  # clients in the order of their turns
        self._now: Order | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="pictures", daemon=True)
        self._thread.start()

    def put(self, order: Order) -> None:
        """Raises `QueueFull`, with the seconds after which to try again; `ServerStopping`."""
        with self._changed:
            self._drop_left()
            if self._stopping:
                raise ServerStopping("the server is stopping; ask again in a minute.")
            own = len(self._waiting.get(order.client, ()))
            waiting = self.waiting
            if waiting >= self.limit or own >= self.per_client:
                self.counts["refused"] += 1
                raise QueueFull(
                    f"{own} of your own pictures wait already"
                    if own >= self.per_client
                    else f"{waiting} pictures wait already",
                    max(1.0, len(order.each) * self.seconds_of(order)) * (own if own >= self.per_client else 1),
                    yours=own >= self.per_client,
                )
            self._waiting.setdefault(order.client, deque()).append(order)
            self._changed.notify_all()

    @property
    def now(self) -> Order | None:
        """The order that is being made."""
        return self._now

    def drop(self, order: Order) -> None:
        """Nobody wants this order any more: what waits is taken out at once."""
        order.leave()
        with self._changed:
            self._drop_left()

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def waiting(self) -> int:
        """How many orders wait, without the one that is being made."""
        return sum(map(len, list(self._waiting.values())))

    def seconds_of(self, order: Order) -> float:
        """Seconds that each picture of an order takes, by its work and how long the newest nine took for theirs."""
        return median(self._rates) * order.work if self._rates else USUAL

    def _left(self, order: Order) -> float:
        """Seconds of an order's pictures that are not begun, or only begun."""
        return (len(order.each) - len(order.results)) * self.seconds_of(order)

    def progress(self, order: Order) -> PictureProgress:
        """Where an order is."""
        with self._changed:
            self._drop_left()
            if order is self._now:
                return order.latest
            before = self._before(order)
            return PictureProgress(len(before), eta=sum(map(self._left, [*before, order])))

    def close(self) -> None:
        """Refuse what waits and what comes, stop what is being made. Returns at once."""
        with self._changed:
            self._stopping = True
            waiting = [order for orders in self._waiting.values() for order in orders]
            self._waiting.clear()
            if self._now:
                self._now.leave()
            self._changed.notify_all()
        for order in waiting:
            _fail(order, ServerStopping("the server is stopping; ask again in a minute."))

    def join(self, seconds: float) -> bool:
        """Wait for the picture that is being made to stop. Returns whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def works(self) -> bool:
        """Whether the thread that makes pictures lives."""
        return self._thread.is_alive()

    def _before(self, order: Order) -> list[Order]:
        """Those that are made before it, with the one that is being made."""
        rounds = [list(orders) for orders in self._waiting.values()]
        turns = [orders[i] for i in range(max(map(len, rounds), default=0)) for orders in rounds if i < len(orders)]
        return [*([self._now] if self._now else []), *(turns[: turns.index(order)] if order in turns else [])]

    def _drop_left(self) -> None:
        for client, orders in list(self._waiting.items()):
            for order in [order for order in orders if order.left.is_set()]:
                orders.remove(order)
                self.counts["left"] += 1
                order.made.cancel()
            if not orders:
                del self._waiting[client]

    def _next(self) -> Order | None:
        """The next order, when there is one; None at the end."""
        with self._changed:
            while True:
                self._drop_left()
                if self._waiting:
                    client = next(iter(self._waiting))
                    orders = self._waiting.pop(client)
                    self._now = orders.popleft()
                    if orders:
                        self._waiting[client] = orders  # behind all others
                    return self._now
                if self._stopping:
                    return None
                self._changed.wait()

    def _work(self) -> None:
        while order := self._next():
            try:
                self._make_each(order)
            except BaseException as error:
                self._failed(order, error)
            else:
                self.counts["made"] += 1
                _resolve(order, order.results)
            finally:
                with self._changed:
                    self._now = None

    def _make_each(self, order: Order) -> None:
        for number, s in enumerate(order.each, 1):
            order.skipped.clear()  # said of the picture before, too late
            order.preview = None
            try:
                order.results.append(self._make(order, s, number))
            except Cancelled:
                if order.left.is_set() or not order.skipped.is_set():
                    raise

    def _make(self, order: Order, s: Settings, number: int) -> Result:
        began = time.monotonic()

        def tell(stage: str, done: int, total: int, preview: Image.Image | None = None) -> None:
            order.check()
            spent = min(self.seconds_of(order), time.monotonic() - began)
            order.tell(PictureProgress(0, stage, done, total, self._left(order) - spent, preview, number))

        def show(stage: str, artefact: Artefact) -> None:
            tell(stage, 1, 1, artefact.image)

        result = self.bench.generate(s, tell, show, preview=tell)
        if all(result.counters["stages"].get(name) for name in s.stages):  # nothing of it was there already
            self._rates.append((time.monotonic() - began) / order.work)
        return result

    def _failed(self, order: Order, error: BaseException) -> None:
        if isinstance(error, Cancelled):
            self.counts["left"] += 1
            _fail(order, ServerStopping("the server is stopping; ask again in a minute.") if self._stopping else error)
            return
        self.counts["failed"] += 1
        if not isinstance(error, UsageError):
            # of an error that nobody foresaw the log needs the traceback, the client must not have it
            log.error("a picture failed: %s", error, exc_info=not isinstance(error, WorkbenchError))
        _fail(order, error if isinstance(error, WorkbenchError | OutOfMemory) else RuntimeError("the server failed"))


def _fail(order: Order, error: BaseException) -> None:
    with suppress(InvalidStateError):  # whoever asked has left this very moment
        order.made.set_exception(error)


def _resolve(order: Order, results: list[Result]) -> None:
    with suppress(InvalidStateError):
        order.made.set_result(results)
