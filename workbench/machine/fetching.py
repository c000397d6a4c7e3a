"""One file fetched over HTTP: resumed where it stopped, checked, and only then under its name.

huggingface_hub 2.4 begins a file anew that was cut or killed (its temporary file has another name each time): 5 GB of SDXL's
UNet. So its client says where a file is, and this fetches it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from workbench.errors import CannotWrite, CorruptWeights, NeedsToken, PullFailed
from workbench.files import writing
from workbench.models import read_header

if TYPE_CHECKING:
    import httpx

TRIES = 6  # in a row without a byte more
PAUSE, LONGEST_PAUSE = 0.5, 30.0  # s before the first new try, and at most
PATIENCE = 120.0  # s; a server that asks for more is not waited for
TIMEOUT = 30.0  # s without a byte


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Attributes:
        bytes: its size; None where the server will say.
        digest: of its content (hex): its sha256 or the first digits of it, or with 40 digits git's sha1 of it; "" where
            nobody has published one.
        headers: sent with the request, to its own host only.
        token: what gives leave where it is refused, for the error; "" where the workbench has no way to show any.
    """

    url: str
    bytes: int | None = None
    digest: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    token: str = ""


class TryAgain(Exception):
    """What went wrong may go well another time. `wait`: seconds that the server asks for."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


def part_of(target: Path) -> Path:
    """Where the beginning of a file is kept until it is whole."""
    return target.with_name(f".{target.name}.part")


def fetch(remote: Download, target: Path, progress: Callable[[int], object]) -> None:
    """Fetch a file to `target`; returns at once where it is there.

    Cut, killed or without room for more, what came so far is kept, and the next call goes on from there. Two at once: the
    second waits for the first. `progress(bytes)`: for each piece that is there, also what was there before; negative where
    pieces turn out to be wrong.

    Raises:
        PullFailed: nobody answers, it is not there, or what comes is not what was published (twice).
        NeedsToken, DiskFull, CannotWrite.
    """
    if target.is_dir():
        raise CannotWrite(f"{target} is a folder, where a file of that name belongs; rename or delete it.")
    if target.exists():
        return
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _part(target) as part:
            if part is None:  # another process has just fetched it
                return
            for last in (False, True):
                _fill(remote, part, progress)
                try:
                    _check(remote, part, target)
                    break
                except CorruptWeights as error:
                    progress(-part.tell())
                    _cut(part, 0)
                    if last:
                        raise PullFailed(f"{error} It was fetched twice; nothing of it is kept.") from None
            os.fsync(part.fileno())
            os.replace(part_of(target), target)
            _version_file(part).unlink(missing_ok=True)
            _sync_folder(target.parent)


@contextmanager
def _part(target: Path) -> Iterator[io.FileIO | None]:
    """The file of what is there so far, locked; None where another process finished it while this one waited."""
    while True:
        with io.FileIO(part_of(target), "a+") as part:
            fcntl.flock(part, fcntl.LOCK_EX)
            if target.exists():
                if _is(part, part_of(target)):
                    os.unlink(part_of(target))
                yield None
                return
            if _is(part, part_of(target)):  # not one that was renamed or deleted while this waited for the lock
                part.seek(0, os.SEEK_END)
                try:
                    yield part
                finally:
                    if not os.fstat(part.fileno()).st_size and _is(part, part_of(target)):
                        os.unlink(part_of(target))
                return


def _is(file: io.FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _cut(part: io.FileIO, size: int) -> None:
    part.truncate(size)
    part.seek(size)


def _fill(remote: Download, part: io.FileIO, progress: Callable[[int], object]) -> None:
    """Append what is missing, with new tries for as long as something comes."""
    import httpx

    progress(part.tell())
    tries, with_more = 0, part.tell()
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        while True:
            try:
                _get(client, remote, part, progress)
                return
            except (httpx.TransportError, TryAgain) as error:
                tries = 0 if part.tell() > with_more else tries + 1
                with_more = part.tell()
                if tries >= TRIES:
                    raise PullFailed(
                        f"{_host(remote.url)} does not give {_file_name(remote.url)} ({str(error) or type(error).__name__}); "
                        "what came so far is kept, the same command goes on from there."
                    ) from error
                wait = error.wait if isinstance(error, TryAgain) else None
                time.sleep(min(PAUSE * 2**tries, LONGEST_PAUSE) if wait is None else wait)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise PullFailed(
                    f"{_file_name(remote.url)} cannot be fetched from {_host(remote.url)} ({type(error).__name__}); check "
                    "its address."
                ) from error


def _get(client: httpx.Client, remote: Download, part: io.FileIO, progress: Callable[[int], object]) -> None:
    """One request for what is missing. Raises `TryAgain` where the rest may come another time."""
    have = part.tell()
    if have and have == remote.bytes:
        return
    wanted = {"Accept-Encoding": "identity", **remote.headers, **_rest(part, remote)}
    with client.stream("GET", remote.url, headers=wanted) as answer:
        if answer.status_code == 416:
            if _total(answer.headers, 0) == have:  # it was all there, and was stopped before it was checked
                return
            progress(-have)
            _cut(part, 0)
            raise TryAgain("the file has become shorter")
        check_status(answer.status_code, answer.headers, remote)
        continued = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status_code != 206 or not continued or _another_version(part, remote, answer.headers):
            progress(-have)
            _cut(part, 0)
            if answer.status_code == 206:
                raise TryAgain("the file is another version by now")
        total = _total(answer.headers, part.tell())
        total = remote.bytes if total is None else total
        _note_version(part, answer.headers)
        if remote.bytes is not None and total not in (None, remote.bytes):
            raise PullFailed(
                f"{_file_name(remote.url)} at {_host(remote.url)} has {total:,} bytes, not the {remote.bytes:,} that were "
                "published; it is another file by now."
            )
        for piece in answer.iter_raw():  # in larger ones httpx would drop what came of one before a cut
            progress(_write(part, piece))
    if total is not None and part.tell() < total:
        raise TryAgain("the connection was cut")


def _write(part: io.FileIO, piece: bytes) -> int:
    """Write all of it, unbuffered: on a full disk what fits is there, and goes on from there."""
    rest = memoryview(piece)
    while rest:
        rest = rest[part.write(rest) :]
    return len(piece)


def _version_file(part: io.FileIO) -> Path:
    """What the server called the version that the part is of."""
    return Path(f"{part.name}.version")


def _note_version(part: io.FileIO, headers: Mapping[str, str]) -> None:
    version = headers.get("ETag", "") or headers.get("Last-Modified", "")
    if not part.tell() and version and not version.startswith("W/"):  # a weak one is no promise of equal bytes
        _version_file(part).write_text(version)


def _another_version(part: io.FileIO, remote: Download, headers: Mapping[str, str]) -> bool:
    """Whether a server that takes no notice of If-Range goes on with another version than the part is of."""
    version = _version_file(part)
    now = headers.get("ETag", "") or headers.get("Last-Modified", "")
    return not remote.digest and part.tell() > 0 and (not version.exists() or now != version.read_text())


def _rest(part: io.FileIO, remote: Download) -> dict[str, str]:
    """The headers that ask for what is missing only: of the same version, where no digest would tell another one's."""
    have, version = part.tell(), _version_file(part)
    if not have:
        version.unlink(missing_ok=True)
        return {}
    if remote.digest:
        return {"Range": f"bytes={have}-"}
    return {"Range": f"bytes={have}-", "If-Range": version.read_text()} if version.exists() else {}


def _total(headers: Mapping[str, str], have: int) -> int | None:
    """Size of the whole file, by the answer; None where it does not say."""
    said = headers.get("Content-Range", "").rpartition("/")[2]
    if said.isdecimal():
        return int(said)
    length = headers.get("Content-Length", "")
    return have + int(length) if length.isdecimal() else None


def check_status(status: int, headers: Mapping[str, str], remote: Download) -> None:
    """Raise what an HTTP status means: `NeedsToken`, `PullFailed`, or that it may go better another time."""
    if status in (200, 206):
        return
    if status in (401, 403):
        raise NeedsToken(
            f"{_host(remote.url)} does not give {_file_name(remote.url)} to everybody (HTTP {status}): "
            + (
                f"accept its terms on its page, and set {remote.token}."
                if remote.token
                else "fetch it with a browser, and put it into the models folder."
            )
        )
    if status in (404, 410):
        raise PullFailed(f"{_file_name(remote.url)} is not at {_host(remote.url)} (HTTP {status}); check its address.")
    if status in (408, 425, 429) or status >= 500:
        raise TryAgain(f"HTTP {status}", _asked_wait(headers, remote))
    raise PullFailed(f"{_host(remote.url)} answers HTTP {status} to {_file_name(remote.url)}; check its address.")


def _asked_wait(headers: Mapping[str, str], remote: Download) -> float | None:
    """Seconds of Retry-After. Raises `PullFailed` where that is longer than anybody waits."""
    said = headers.get("Retry-After", "")
    if not said.isdecimal():
        return None
    if int(said) > PATIENCE:
        raise PullFailed(
            f"{_host(remote.url)} asks to come back in {int(said) / 60:.0f} minutes; what came so far is kept, the same "
            "command goes on from there."
        )
    return float(said)


def _check(remote: Download, part: io.FileIO, target: Path) -> None:
    """Raise `CorruptWeights` where the file is not the published one; where no digest is published, where it is cut."""
    if not remote.digest:
        check_structure(Path(str(part.name)), target.name)
    elif not (found := digest_like(remote.digest, Path(str(part.name)))).startswith(remote.digest.lower()):
        raise CorruptWeights(
            f"{_file_name(remote.url)} from {_host(remote.url)} is not what was published: its digest is {found}, not "
            f"{remote.digest}."
        )


GIT = 40  # hex digits of git's sha1


def digest_like(known: str, path: Path) -> str:
    """The digest (hex) of a file's content, of the kind of one that is known: sha256, or with 40 digits git's sha1."""
    with open(path, "rb") as file:
        if len(known) != GIT:
            return hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
        return hashlib.sha1(b"blob %d\0" % size + file.read(), usedforsecurity=False).hexdigest()


def check_structure(path: Path, name: str) -> None:
    """Raise `CorruptWeights` where a file is visibly not whole: of a `.safetensors` its header, of a `.pth` its archive.

    `name`: of the file, if it lies under another one until it is whole.
    """
    if name.endswith(".safetensors"):
        read_header(path)
    elif name.endswith((".pth", ".pt", ".bin")) and not _is_pickle(path):
        with open(path, "rb") as file:
            page = file.read(64).lstrip()[:1] == b"<"
        raise CorruptWeights(f"{name} is {'a web page' if page else 'no file of weights, or was cut'}.")


def _is_pickle(path: Path) -> bool:
    """Whether a file is a whole torch archive, or one of torch before 1.6, of which nothing tells whether it is whole."""
    with open(path, "rb") as file:
        head = file.read(2)
    return zipfile.is_zipfile(path) if head == b"PK" else head[:1] == b"\x80"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain_url(url: str) -> str:
    """An address without user, password and query, in which tokens are."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{_host(url)}{parts.path}"


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _file_name(url: str) -> str:
    return url.partition("?")[0].rstrip("/").rpartition("/")[2] or url
