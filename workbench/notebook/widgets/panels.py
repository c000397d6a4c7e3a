"""What the wall, the sweep panel and the ballot have in common: one worker thread each, and errors as a sentence on the page.

ipywidgets swallows what a handler raises, and a slow handler blocks the kernel. So a handler only hands its work over to the
worker thread, and an error there is shown in the widget.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypedDict, TypeVar

import anywidget
import ipywidgets as widgets
import traitlets
from PIL import Image
from tqdm.auto import tqdm

from workbench.errors import WorkbenchError
from workbench.files import home, jpeg_bytes
from workbench.sweeps import Plan

from ..front_end import headless

P = ParamSpec("P")
E = TypeVar("E")  # the event that a handler takes


class Message(TypedDict):
    """What a panel's script sends: `do` names what it asks for. Each kind of message adds its own entries."""

    do: str


class Said(TypedDict):
    """What a panel says in words, and whether that is an error."""

    text: str
    error: bool


def sentence(error: Exception) -> str:
    """What to show of an error: a `WorkbenchError` is a sentence already; of any other its name.

    The traceback of any other goes to `errors.log` at home, since nobody sees what a thread of a kernel prints.
    """
    if isinstance(error, WorkbenchError):
        said = str(error)
        return said[:1].upper() + said[1:]
    log = home() / "errors.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}\n{''.join(traceback.format_exception(error))}\n")
    return (
        f"Something went wrong that should not ({type(error).__name__}: {error}); everything made so far is on disk, and "
        f"the details are in {log}."
    )


def shown_in(
    place: widgets.HTML, handler: Callable[[E], object], failed: Callable[[Exception], None]
) -> Callable[[E], None]:
    """`handler`, which first clears `place`; what it raises goes to `failed`, since ipywidgets shows nothing of it."""

    def safely(event: E) -> None:
        try:
            place.value = ""
            handler(event)
        except Exception as error:
            failed(error)

    return safely


# a mark beside the words, in the theme's colour: words in one red are too faint on one of the two grounds
ERROR_STYLE = "border-left: 4px solid var(--jp-error-color1, #b00020); padding-left: 8px"


class Background:
    """One daemon thread that does what it is handed, in that order.

    `failed` is called with the exception that work raised. While `watching`, `look` is called after every second without
    other work.
    """

    def __init__(self, failed: Callable[[Exception], None], look: Callable[[], None] | None = None) -> None:
        self.watching = False
        self._failed, self._look = failed, look
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have `work(*args, **kwargs)` done; returns at once."""
        self._queue.put(partial(work, *args, **kwargs))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="workbench-widget")
                self._thread.start()

    def watch(self, on: bool) -> None:
        """Begin or end to call `look`."""
        begins = on and not self.watching
        self.watching = on
        if begins:  # the thread may be waiting for work without a limit
            self.submit(lambda: None)

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until everything handed over so far is done. Raises `TimeoutError`."""
        done = threading.Event()
        self.submit(done.set)
        if not done.wait(seconds):
            raise TimeoutError(f"the widget's work was not done within {seconds:g} s.")

    def _work(self) -> None:
        while True:
            try:
                work = self._queue.get(timeout=1.0 if self.watching else None)
            except Empty:
                if self._look is None:
                    continue
                work = self._look
            try:
                work()
            except Exception as error:  # said in the widget, whatever it is: nobody else would
                self._failed(error)


class Panel(anywidget.AnyWidget):
    """An anywidget whose messages `{"do": NAME, ...}` call `_do_NAME(message)` on its worker thread.

    Where no front end is attached (papermill) it has no comm, and is shown by `_static` instead.

    Attributes:
        said: a `Said`, shown until it changes.
        work: the worker thread.
    """

    said = traitlets.Dict().tag(sync=True)

    def __init__(self, look: Callable[[], None] | None = None, /, **traits: object) -> None:
        self.work = Background(self._failed, look)
        super().__init__(**traits)
        self.on_msg(self._received)

    def open(self) -> None:
        """A comm only where someone looks: papermill would store the whole state in the notebook's metadata."""
        if not headless():
            super().open()

    def say(self, text: str, *, error: bool = False) -> None:
        self.said = Said(text=text, error=error)

    def _failed(self, error: Exception) -> None:
        self.say(sentence(error), error=True)

    def _received(self, _: object, message: Mapping[str, object], buffers: object) -> None:
        self.work.submit(self._dispatch, message)

    def _dispatch(self, message: Mapping[str, object]) -> None:
        getattr(self, f"_do_{message['do']}")(message)

    def _static(self) -> None:
        """What is displayed where no front end is attached."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if headless():
            self._static()
        else:
            bundle = self._repr_mimebundle_()
            display(*(bundle if isinstance(bundle, tuple) else (bundle,))[:1], raw=True)


def plan_words(planned: Plan) -> str:
    """How many pictures a sweep makes, by how many jobs of each stage, and what is left of time and disk."""
    what = planned.to_json()
    jobs = ", ".join(f"{count['jobs']} {stage}" for stage, count in what["stages"].items() if count["jobs"])
    known = f"about {interval(what['seconds'])}" if what["seconds"] is not None else "time not measured yet"
    if what["seconds"] is None and what["seconds_known"]:
        known = f"at least {interval(what['seconds_known'])}"
    return f"{what['cells']} pictures ({jobs}); {known} and {what['bytes'] / 1e6:,.0f} MB to go."


def now_words(progress: Mapping[str, Any]) -> str:
    """Which step a sweep is at and what is left, in words."""
    if "seconds_left" not in progress:
        return "loading"
    at_least = "at least " if progress["seconds_left_is"] == "at least" else ""
    step = f"{progress['stage']}, step {progress['step']} of {progress['steps']}; " if progress.get("steps") else ""
    return f"{step}{at_least}{interval(progress['seconds_left'])} left"


def interval(seconds: float) -> str:
    return tqdm.format_interval(seconds)


def jpeg(image: Image.Image, side: int, quality: int = 88) -> bytes:
    """A picture as JPEG, shrunk to `side` x `side` px at most; never enlarged."""
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return jpeg_bytes(image, quality)
