"""Finished stage results, kept under the hash of everything that made them. Same key: not computed again.

An artefact is two files, KEY.png and KEY.json; the JSON is written last and is the commit mark. Both are covered by hashes.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from workbench.errors import DamagedArtefact, NoEviction
from workbench.files import checksum_holds, home, pixels_sha256, png_bytes, with_checksum

from .places import Folder, Remote, open_place, size_limit

MEMORY_LIMIT = 256_000_000  # bytes of pixels kept in memory; at 1536 px one picture is 7 MB
RECENT = 60.0  # s; an artefact that was written or read this lately may be in use, and is never evicted
ABANDONED = 600.0  # s; the same for a half-written file: who still writes it, on a network disk that hangs, would fail
EVICT_TO = 0.9  # of the limit, so that not every further put has to evict
RESCAN = 0.02  # of the limit: after writing this much a process looks what others have written
PAUSE = 10.0  # s until eviction is tried again where it could not make room


@dataclass(frozen=True)
class Artefact:
    """What a stage hands on: a picture, and what the next stage needs beside it.

    Attributes:
        image: 8-bit RGB.
        generator_state: of the one random generator that base and refiner share, when the stage had finished (torch's CPU
            generator, 5,056 bytes); None where the stage has none.
        info: JSON values: what was found in the picture, like its faces. "notes": sentences for whoever looks at it.
        seconds: that the stage took.
    """

    image: Image.Image
    generator_state: bytes | None = None
    info: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a stage and those before it have to say of their results, like that no face was found."""
        return tuple(self.info.get("notes", ()))


def pack(artefact: Artefact, about: Mapping[str, object]) -> tuple[bytes, bytes]:
    """An artefact as two files: (PNG, JSON). The JSON is its commit mark; `about` are JSON values that say what made it."""
    state = artefact.generator_state
    record = {
        "pixels_sha256": pixels_sha256(artefact.image),
        "generator_state": base64.b64encode(state).decode() if state is not None else None,
        "info": artefact.info,
        "seconds": artefact.seconds,
        "about": about,
    }
    return png_bytes(artefact.image, level=1), json.dumps(with_checksum(record)).encode()


def unpack(png: bytes, mark: bytes) -> Artefact:
    """The artefact that `pack` was given. Raises `DamagedArtefact` if a byte that matters was changed."""
    try:
        record = json.loads(mark)
    except (ValueError, RecursionError) as error:
        raise DamagedArtefact(f"its JSON cannot be read ({error}).") from error
    if not checksum_holds(record):
        raise DamagedArtefact("its JSON does not match its checksum.")
    try:
        # not Image.open, which refuses the 268 megapixels of the largest picture that the settings allow
        image = PngImagePlugin.PngImageFile(io.BytesIO(png)).convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow meets flipped bytes with SyntaxError, OSError, ValueError, struct.error, ...
        raise DamagedArtefact(f"its picture cannot be decoded ({error}).") from error
    if pixels_sha256(image) != record["pixels_sha256"]:
        raise DamagedArtefact("its pixels do not match their hash.")
    text = record["generator_state"]
    state = base64.b64decode(text, validate=True) if text is not None else None
    return Artefact(image, state, record["info"], record["seconds"])


@dataclass
class Entry:
    """The files of one key as they lie in the store.

    Attributes:
        names: of the .png and the .json; where one is missing, the other is no artefact but a leftover.
        size: of the files together, in bytes.
        used: when it was last written or read, in s since 1970; None where the store cannot know.
    """

    key: str
    names: list[str]
    size: int = 0
    used: float | None = None

    @property
    def whole(self) -> bool:
        return len(self.names) == 2

    @property
    def mark(self) -> str:
        """Name of the .json, which is the commit mark."""
        return _names(self.key)[1]

    def idle(self, now: float) -> bool:
        """Whether it was last used so long ago that nobody works with it now; False where the store cannot know."""
        half_written = "/." in self.names[0]
        return self.used is not None and now - self.used > (ABANDONED if half_written else RECENT)


@dataclass(frozen=True)
class Mark:
    """What an artefact's JSON says of how it was made: by which stage, in how many seconds."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Evicted:
    """What an eviction dropped.

    Attributes:
        keys: of what was dropped.
        size: of that, in bytes.
        seconds: that its stages had taken.
        left: bytes that are still in the store.
    """

    keys: list[str]
    size: int
    seconds: float
    left: int


def _names(key: str) -> tuple[str, str]:
    return f"{key[:2]}/{key}.png", f"{key[:2]}/{key}.json"


class Store:
    """Artefacts by key (a sha256 in hex): in memory, and where `where` is not None in a folder or under an fsspec URL.

    Threads, processes and machines may use it at once. What does not match its hashes counts as absent: it is dropped and
    computed again, never served.

    A folder is kept below `size_limit` by eviction. First goes what frees most bytes per second of work, by the seconds of
    its own stage alone (where its inputs are gone too, making it again costs more). What was used within a minute or is
    being kept (`keeping`) never goes. Nothing is ever evicted from a remote store.

    Raises:
        UnreadableSize: $WORKBENCH_STORE_LIMIT is not a size.
        UnknownPlace: no installed library opens the URL.
    """

    def __init__(self, where: Path | str | None = None) -> None:
        self.place: Folder | Remote | None = open_place(where) if where is not None else None
        self.folder: Path | str | None = self.place.path if isinstance(self.place, Folder) else where
        self.limit = size_limit(self.place.path) if isinstance(self.place, Folder) else 0
        self._memory: OrderedDict[str, Artefact] = OrderedDict()
        self._memory_size = 0
        self._passing: set[str] = set()
        self._lock = threading.Lock()
        self._sizing = threading.Lock()
        self._size: int | None = None  # bytes in the folder when it was last looked through
        self._added = 0  # bytes that this process has written since then
        self._pause_until = 0.0

    @classmethod
    def at_home(cls) -> Store:
        """The store at $WORKBENCH_STORE (a folder or an fsspec URL), else in `store` at home."""
        where = os.environ.get("WORKBENCH_STORE")
        if where and "://" in where:
            return cls(where)
        return cls(Path(where).expanduser().resolve() if where else home() / "store")

    def __reduce__(self) -> tuple[type[Store], tuple[Path | str | None]]:
        return Store, (self.folder,)  # a worker that is sent a store opens the same place

    def __contains__(self, key: str) -> bool:
        """Whether `key` was finished (cheap: does not read the picture)."""
        if key in self._memory:
            return True
        png, mark = _names(key)
        return self.place is not None and self.place.has(mark) and self.place.has(png)

    def get(self, key: str, remember: bool = True) -> Artefact | None:
        """The artefact under `key`; None if there is no undamaged one.

        `remember=False` is for reading many of them once: it keeps none of them in memory.
        """
        with self._lock:
            if key in self._memory:
                self._memory.move_to_end(key)
                return self._memory[key]
        artefact = self._read(key)
        if artefact and remember:
            self._remember(key, artefact)
        return artefact

    def put(self, key: str, artefact: Artefact, about: Mapping[str, object]) -> int:
        """Keep `artefact`; `about`, JSON values, says what made it. Returns the bytes written.

        Raises:
            DiskFull, CannotWrite, StoreUnreachable.
        """
        self._remember(key, artefact)
        self._passing.discard(key)
        if self.place is None:
            return 0
        for name, data in zip(_names(key), files := pack(artefact, about), strict=True):
            self.place.write(name, data)
        size = sum(map(len, files))
        self._make_room(size)
        return size

    def pass_by(self, key: str, artefact: Artefact) -> None:
        """Remember `artefact` in memory alone, as long as there is room: a preview is no result."""
        self._passing.add(key)
        self._remember(key, artefact)

    def passing(self, key: str) -> bool:
        """Whether `key` is only remembered; see `pass_by`."""
        return key in self._passing and key in self._memory

    def keeping(self, keys: Iterable[str]) -> AbstractContextManager[None]:
        """Inside, no process of this machine evicts these keys, which need not be there yet.

        It ends with the process at the latest. It has no effect on other machines, remote stores and the cache in memory.
        """
        return self.place.pinning(keys) if self.place else nullcontext()

    def entries(self) -> list[Entry]:
        """Everything that lies in the store, leftovers of killed processes too."""
        found: dict[str, Entry] = {}
        for file in self.place.files() if self.place else ():
            entry = found.setdefault(file.name if file.temporary else file.key, Entry(file.key, []))
            entry.names.append(file.name)
            entry.size += file.size
            entry.used = max(entry.used or 0.0, file.used) if file.used is not None else None
        return list(found.values())

    def marks(self, entries: list[Entry]) -> Iterator[tuple[Entry, Mark | None]]:
        """(entry, its mark) of the artefacts among `entries`: the JSON's hash is not checked; None if it cannot be read."""
        by_mark = {entry.mark: entry for entry in entries if entry.whole}
        for name, data in self.place.read_many(list(by_mark)) if self.place else ():
            try:
                record = json.loads(data)
                yield by_mark[name], Mark(str(record["about"].get("stage")), float(record["seconds"]))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                yield by_mark[name], None

    def pinned(self) -> set[str]:
        """Keys that living processes of this machine keep."""
        if not isinstance(self.place, Folder) or not self.place.path.exists():
            return set()
        with self.place.alone():
            return self.place.pinned()

    def read(self, key: str) -> Artefact:
        """The artefact on disk, its hashes checked. Raises `FileNotFoundError` (not finished), `DamagedArtefact`."""
        if self.place is None:
            raise FileNotFoundError(key)
        png, mark = _names(key)
        committed = self.place.read(mark)
        try:
            return unpack(self.place.read(png), committed)
        except FileNotFoundError:
            raise DamagedArtefact("its picture is missing.") from None

    def drop(self, entry: Entry) -> None:
        """Take an entry off the disk, its commit mark first."""
        if self.place:
            for name in sorted(entry.names):  # .json before .png
                self.place.drop(name)

    def evict(self, to: int, *, older_than: float | None = None, dry_run: bool = False) -> Evicted:
        """Drop what was not used for `older_than` s, then the largest per second of work until `to` bytes are left.

        Never what is kept or was used within a minute. With `dry_run` nothing is dropped, only said. Raises `NoEviction`
        for a remote store.
        """
        if not isinstance(self.place, Folder):
            raise NoEviction(f"{self.place or 'a store in memory'} is no folder, and only folders are evicted from.")
        with self.place.alone():
            return self._evict(self.place, to, older_than, dry_run)

    def _evict(self, place: Folder, to: int, older_than: float | None = None, dry_run: bool = False) -> Evicted:
        entries = self.entries()
        left = sum(entry.size for entry in entries)
        if left <= to and older_than is None:
            return Evicted([], 0, 0.0, left)
        pinned, now = place.pinned(), time.time()
        free = [entry for entry in entries if entry.key not in pinned and entry.idle(now)]
        seconds = {entry.key: mark.seconds for entry, mark in self.marks(free) if mark}

        def cost(entry: Entry) -> float:
            return seconds.get(entry.key, 0.0) if entry.whole else 0.0

        def bytes_per_second(entry: Entry) -> float:
            return entry.size / cost(entry) if cost(entry) > 0 else float("inf")

        def stale(entry: Entry) -> bool:
            return older_than is not None and now - (entry.used or 0.0) > older_than

        dropped = []
        for entry in sorted(free, key=lambda e: (not stale(e), -bytes_per_second(e), e.used)):
            if left > to or stale(entry):
                dropped.append(entry)
                left -= entry.size
        for entry in dropped if not dry_run else ():
            self.drop(entry)
        sizes = sum(entry.size for entry in dropped)
        return Evicted([entry.key for entry in dropped], sizes, sum(map(cost, dropped)), left)

    def _make_room(self, added: int) -> None:
        """Count what was written, and evict when the folder has grown over its limit."""
        if not self.limit or not isinstance(self.place, Folder):
            return
        with self._sizing:
            self._added += added
            if self._size is None or self._added > RESCAN * self.limit:
                self._size, self._added = sum(file.size for file in self.place.files()), 0
            if self._size + self._added <= self.limit or time.monotonic() < self._pause_until:
                return
            with self.place.alone(wait=False) as alone:
                if alone:
                    self._size, self._added = self._evict(self.place, int(EVICT_TO * self.limit)).left, 0
            if self._size + self._added > self.limit:  # another process is at it, or all that is left is in use
                self._pause_until = time.monotonic() + PAUSE

    def _remember(self, key: str, artefact: Artefact) -> None:
        with self._lock:
            if key in self._memory:
                self._memory_size -= _pixel_bytes(self._memory.pop(key))
            self._memory[key] = artefact
            self._memory_size += _pixel_bytes(artefact)
            while self._memory_size > MEMORY_LIMIT and len(self._memory) > 1:
                forgotten, old = self._memory.popitem(last=False)
                self._memory_size -= _pixel_bytes(old)
                self._passing.discard(forgotten)

    def _read(self, key: str) -> Artefact | None:
        try:
            artefact = self.read(key)
        except FileNotFoundError:
            return None
        except DamagedArtefact:
            self.drop(Entry(key, list(_names(key))))  # so that it is made again
            return None
        if self.place:
            self.place.touch(_names(key)[1])
        return artefact


def _pixel_bytes(artefact: Artefact) -> int:
    return 3 * artefact.image.width * artefact.image.height
