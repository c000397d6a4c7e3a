"""Where a store's files lie: a folder that several machines may mount, or any fsspec URL (s3://, gs://, memory://)."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import StoreUnreachable, UnknownPlace, UnreadableSize
from workbench.files import locked, write_atomic, writing

DEFAULT_LIMIT = 50_000_000_000  # bytes, or this share of the whole disk where that is less
DEFAULT_SHARE = 0.2
UNITS = {"b": 1, **{f"{letter}b": 1000**n for n, letter in enumerate("kmgt", 1)}}
UNITS |= {f"{letter}ib": 1024**n for n, letter in enumerate("kmgt", 1)}

# Files of artefacts are named by a sha256, so that eviction in a folder that has other files too cannot take those
OURS = re.compile(r"\.?[0-9a-f]{64}\.(png|json)(\..+)?")

_own_pins: set[str] = set()  # pin files of this process: on NFS a process's own lock does not stop itself


def parse_size(text: str, name: str = "the size") -> int:
    """Bytes of `50GB`, `800 MB`, `1.5 TiB` or `0`. Raises `UnreadableSize`, which calls the value `name`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)", text.strip().lower())
    if match and match[2] in UNITS:
        return round(float(match[1]) * UNITS[match[2]])
    if re.fullmatch(r"0+", text.strip()):
        return 0
    raise UnreadableSize(f"{name} = '{text}' is not a size; write a number and its unit, like 50GB, 800 MB or 0.")


def size_words(size: float) -> str:
    """`1.5 GB` of a number of bytes, in the units that `parse_size` reads."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def size_limit(folder: Path) -> int:
    """Bytes that a store in `folder` may hold: $WORKBENCH_STORE_LIMIT (0: any number), else the smaller of 50 GB and a fifth
    of the disk. Raises `UnreadableSize`."""
    if text := os.environ.get("WORKBENCH_STORE_LIMIT"):
        return parse_size(text, "WORKBENCH_STORE_LIMIT")
    return min(DEFAULT_LIMIT, int(DEFAULT_SHARE * disk_of(folder)[0]))


def disk_of(folder: Path) -> tuple[int, int]:
    """(size, free) in bytes of the disk that has `folder`, which need not exist yet."""
    folder = folder.absolute()
    usage = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists()))
    return usage.total, usage.free


@dataclass(frozen=True)
class StoredFile:
    """A file of an artefact, or a half-written one (`temporary`).

    Attributes:
        name: in the place: `ab/abcd....png`.
        size: in bytes.
        used: when it was written or last used, in s since 1970; None where the place does not know.
    """

    name: str
    size: int
    used: float | None

    @property
    def key(self) -> str:
        return self.name.rpartition("/")[2].lstrip(".").partition(".")[0]

    @property
    def temporary(self) -> bool:
        return "/." in self.name


class Folder:
    """Files in a folder: written whole, kept from eviction while pinned, with the time of their last use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str) -> bytes:
        """Content of a file. Raises `FileNotFoundError`."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            if error.errno == errno.EIO:  # a bad sector: what cannot be read is as good as damaged
                return b""
            raise

    def read_many(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """(name, content) of those that are there."""
        for name in names:
            try:
                yield name, self.read(name)
            except FileNotFoundError:
                continue

    def write(self, name: str, data: bytes) -> None:
        write_atomic(self.path / name, data)

    def drop(self, name: str) -> None:
        with writing(self.path / name):
            (self.path / name).unlink(missing_ok=True)

    def touch(self, name: str) -> None:
        """Note that a file was used now."""
        try:
            os.utime(self.path / name)
        except (FileNotFoundError, PermissionError):
            return  # evicted just now, or a store that others own: they alone decide what goes
        except OSError as error:
            if error.errno != errno.EROFS:
                raise

    def files(self) -> Iterator[StoredFile]:
        """Every file of artefacts, half-written ones too; nothing else that lies in the folder (pins, the user's own)."""
        for folder in _entries(self.path):
            if len(folder.name) == 2 and folder.is_dir():
                for file in _entries(folder.path):
                    if not OURS.fullmatch(file.name):
                        continue
                    try:
                        stat = file.stat()
                    except FileNotFoundError:
                        continue  # renamed or evicted since it was listed
                    yield StoredFile(f"{folder.name}/{file.name}", stat.st_size, stat.st_mtime)

    def alone(self, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Inside, no other process of this machine evicts or pins. Yields False if one does so now and `wait` is False."""
        return locked(self.path / "lock", wait=wait)

    @contextmanager
    def pinning(self, keys: Iterable[str]) -> Iterator[None]:
        """Inside, no process of this machine evicts the artefacts of `keys`; it ends with this process at the latest."""
        folder = self.path / "pins"
        with self.alone(), writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = tempfile.NamedTemporaryFile("w", dir=folder, prefix=f"{os.getpid()}-", delete=False)  # noqa: SIM115
            os.fchmod(file.fileno(), 0o644)  # its 0600 would hide the pins from those who share the store
            fcntl.flock(file, fcntl.LOCK_EX)  # the system unlocks it when the process dies: its pins are void then
            _own_pins.add(file.name)
            file.write("\n".join(keys))
            file.flush()
        try:
            with file:
                try:
                    yield
                finally:
                    # removed while still locked: an unlocked one looks like a dead process's, which others remove
                    Path(file.name).unlink(missing_ok=True)
        finally:
            _own_pins.discard(file.name)

    def pinned(self) -> set[str]:
        """Keys that living processes keep; to be called inside `alone`. Removes the pins of dead processes.

        All keys that there are, where a pin cannot be read.
        """
        keys: set[str] = set()
        for pin in _entries(self.path / "pins"):
            try:
                file = open(pin.path)  # noqa: SIM115
            except FileNotFoundError:
                continue  # given up since it was listed
            except PermissionError:  # another user's, written with 0600: which keys it keeps cannot be known
                return {stored.key for stored in self.files()}
            with file:
                if pin.path not in _own_pins:
                    try:
                        # shared: another user's pin can be opened for reading only, and NFS refuses LOCK_EX on such a file
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    except BlockingIOError:
                        pass  # its process lives
                    else:
                        with suppress(PermissionError):  # another user's in a folder where each removes his own
                            Path(pin.path).unlink(missing_ok=True)
                        continue
                keys |= set(file.read().split())
        return keys


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


class Remote:
    """Files under an fsspec URL. Nothing is ever evicted or pinned there: the bucket's lifecycle rules are for that.

    Raises `UnknownPlace`, and `StoreUnreachable` from all its methods.
    """

    def __init__(self, url: str, what: str = "store") -> None:
        """`what`: what lies there, as errors call it."""
        from fsspec.core import url_to_fs

        self.url, self.what = url, what
        try:
            self._system, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UnknownPlace(
                f"the {self.what} {self} cannot be opened ({self._told(error)}); name a folder, or a URL whose fsspec "
                "library is installed (s3:// needs s3fs, gs:// gcsfs)."
            ) from error

    def __str__(self) -> str:
        return public_address(self.url)

    def _told(self, error: Exception) -> str:
        """What an error says, without the credentials that may be in its address."""
        host, _, query = self.url.partition("://")[2].partition("?")
        user = host.partition("/")[0].rpartition("@")[0]
        said = str(error)
        for secret in filter(None, (user, user.partition(":")[2], query)):
            said = said.replace(secret, "...")
        return said

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """fsspec's file system, whose methods have wider types than ours need; its errors become `StoreUnreachable`."""
        try:
            yield self._system
        except FileNotFoundError:
            raise
        except Exception as error:  # every library behind fsspec has errors of its own
            raise StoreUnreachable(
                f"the {self.what} {self} does not work ({type(error).__name__}: {self._told(error)}); check its address, "
                "the network and your rights, then run the same command again."
            ) from error

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def has(self, name: str) -> bool:
        with self._asking() as system:
            try:
                system.info(self._path(name))  # not exists(), which calls an unreachable server "no"
            except FileNotFoundError:
                return False
            return True

    def read(self, name: str) -> bytes:
        """Content of a file. Raises `FileNotFoundError`, `StoreUnreachable`."""
        with self._asking() as system:
            return system.cat_file(self._path(name))

    def read_many(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """(name, content) of those that are there, 500 at a time where the library can."""
        paths = {self._path(name): name for name in names}
        for start in range(0, len(paths), 500):
            with self._asking() as system:
                found = system.cat(list(paths)[start : start + 500], on_error="return")
                for answer in found.values():
                    if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                        raise answer
            for path, answer in found.items():
                if isinstance(answer, bytes):
                    yield paths[path], answer

    def write(self, name: str, data: bytes) -> None:
        with self._asking() as system:
            path = self._path(name)
            try:
                system.pipe_file(path, data)
            except FileNotFoundError:  # a kind of place that has real folders
                system.makedirs(path.rpartition("/")[0], exist_ok=True)
                system.pipe_file(path, data)

    def drop(self, name: str) -> None:
        with self._asking() as system:
            try:
                system.rm_file(self._path(name))
            except FileNotFoundError:
                return  # another process was faster

    def touch(self, name: str) -> None:
        """Does nothing: most remote places cannot note that a file was used."""

    def files(self) -> Iterator[StoredFile]:
        """Every file of artefacts, half-written ones too; when they were used is not known."""
        with self._asking() as system:
            system.invalidate_cache()  # s3fs would answer with an old listing
            try:
                found = system.find(self._root, detail=True)
            except FileNotFoundError:
                found = {}
            system.invalidate_cache()
        for path, about in found.items():
            folder, _, file = path.rpartition("/")
            if OURS.fullmatch(file):
                yield StoredFile(f"{folder.rpartition('/')[2]}/{file}", about["size"] or 0, None)

    def pinning(self, keys: Iterable[str]) -> AbstractContextManager[None]:
        """Does nothing: nothing is evicted here."""
        return nullcontext()


def public_address(url: str) -> str:
    """A URL without user, password and query, any of which may be a secret; a path as it is."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def open_place(where: Path | str, what: str = "store") -> Folder | Remote:
    """The place named by a path or URL; file:// is a folder like any other. `what`: as errors call it."""
    if not isinstance(where, str) or "://" not in where:
        return Folder(Path(where).expanduser())
    remote = Remote(where, what)
    kinds = remote._system.protocol
    return Folder(Path(remote._root)) if "file" in ((kinds,) if isinstance(kinds, str) else kinds) else remote
