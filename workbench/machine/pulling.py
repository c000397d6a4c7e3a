"""From names to weights on the disk: what is there already, what is used in place, what is fetched, whether there is room."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from workbench.errors import DiskFull, PullFailed, UsageError, WorkbenchError
from workbench.files import file_sha256, hash_json, locked, write_atomic, writing
from workbench.models import HUB_ID, models_folder
from workbench.settings import Settings
from workbench.store import size_words

from . import civitai
from .elsewhere import found_in, link, settled
from .fetching import TIMEOUT, Download, fetch, part_of, plain_url
from .hub import files_of, in_hub_cache, loaded_of, remote_of
from .pulled import Pulled, note_pulled, pulled_files, single_target, there, verify_files, verify_weight
from .registry import LPIPS, REGISTRY, Weight, WeightFile, needed, weight_named

How = Literal["here", "in place", "fetch"]
SPARE = 200_000_000  # bytes that stay free: logs and the first pictures have to be written, too
INCOMING = ".incoming"  # where a file waits whose kind is not known before it is read


@dataclass(frozen=True)
class Piece:
    """A file to be had.

    Attributes:
        target: where it belongs; under `.incoming` where only its content tells.
        how: whether it is there, used in place from `lies`, or fetched from `remote`.
        bytes: to be fetched still; 0 where nobody says how many.
        source: as the record of what was pulled has it.
        about: text to be kept beside it, by the ending of its file.
        into: the folder under the models folder that it was asked into.
    """

    target: Path
    how: How
    source: str = ""
    bytes: int = 0
    lies: Path | None = None
    remote: Download | None = None
    about: tuple[str, str] | None = None
    into: str | None = None


@dataclass(frozen=True)
class PullPlan:
    """What a pull will do.

    Attributes:
        free: bytes free where the models are.
    """

    pieces: list[Piece]
    free: int

    @property
    def bytes(self) -> int:
        """To be fetched."""
        return sum(piece.bytes for piece in self.pieces if piece.how == "fetch")


def weights_for(s: Settings) -> list[Weight]:
    """What `pull --for` fetches: what the settings load, and the backbone of the score's LPIPS."""
    return [*needed(s), LPIPS]


def plan_pull(
    names: Sequence[str], *, weights: Sequence[Weight] = (), folder: Path | None = None, into: str | None = None
) -> PullPlan:
    """Look what is there, in the Hugging Face cache, and in `folder`; ask the hub about the rest. Writes nothing.

    Args:
        names: of the registry, ids of the hub (`org/repo`, or `org/repo/FILE` for one file of it), or addresses.
        weights: of the registry, beside these.
        folder: the models folder of another tool.
        into: the folder under the models folder for what is in no registry, where its content does not tell.

    Raises:
        UsageError: a name is none of these. PullFailed, NeedsToken.
        DiskFull: there is no room for it.
    """
    check_into(into)
    pieces = [piece for weight in weights for piece in _of_weight(weight, folder)]
    for name in names:
        pieces += _of_name(name, folder, into)
    once = {piece.target: piece for piece in pieces}  # a weight that two presets need
    plan = PullPlan(list(once.values()), _free())
    if plan.bytes and plan.bytes + SPARE > plan.free:
        raise DiskFull(
            f"{size_words(plan.bytes)} are to be fetched into {models_folder()}, and {size_words(plan.free)} are free there: "
            f"{size_words(plan.bytes + SPARE - plan.free)} too few; workbench disk says what can be freed."
        )
    return plan


def check_into(into: str | None) -> None:
    """Raise `UsageError` for a folder that is not under the models folder."""
    if into is not None and (into.startswith(("/", "~")) or ".." in into.split("/")):
        raise UsageError(f"--into {into} leads out of {models_folder()}; name a folder in it, like upscalers.")


def _free() -> int:
    folder = models_folder().resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _of_name(name: str, folder: Path | None, into: str | None) -> list[Piece]:
    if name in REGISTRY:
        return _of_weight(REGISTRY[name], folder)
    if name.startswith(("http://", "https://")):
        return _of_url(name, into)
    parts = name.split("/")
    repo, _, revision = "/".join(parts[:2]).partition("@")
    if HUB_ID.fullmatch(repo):
        return _of_hub(repo, revision or "main", "/".join(parts[2:]), into)
    return _of_weight(weight_named(name), folder)  # which says what there is


def _of_weight(weight: Weight, folder: Path | None) -> list[Piece]:
    if place := there(weight):
        return [Piece(place, "here", weight.source)]
    if folder and weight.single and (lies := found_in(folder, weight.single)) and (target := single_target(weight)):
        return [Piece(target, "in place", f"{lies}", lies=lies)]
    pieces, left = [], []
    for file in weight.files:
        target = weight.file_path(file)
        if target.exists():
            pieces.append(Piece(target, "here", weight.source))
        elif lies := in_hub_cache(weight, file) or (found_in(folder, file) if folder and not weight.repo else None):
            pieces.append(Piece(target, "in place", f"{lies}", lies=lies))
        else:
            left.append(file)
    if not left:
        return pieces
    if not weight.repo:
        return [
            *pieces,
            *(
                _to_fetch(weight.file_path(f), weight.url, _sized(Download(weight.url, f.bytes, f.digest)))
                for f in left
            ),
        ]
    commit, files = files_of(weight.repo, weight.revision)
    for file in left:
        if file.name not in files:
            raise PullFailed(f"{weight.repo} at {commit[:7]} has no file {file.name} any more.")
        meant = files[file.name] if not file.digest else WeightFile(file.name, file.bytes, file.digest)
        source, remote = f"{weight.repo}@{commit}/{file.name}", remote_of(weight.repo, commit, meant)
        pieces.append(_to_fetch(weight.file_path(file), source, remote))
    return pieces


def _to_fetch(target: Path, source: str, remote: Download, into: str | None = None) -> Piece:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise PullFailed(f"{target.name} is not here, and is not fetched, since HF_HUB_OFFLINE is set; unset it.")
    part = part_of(target)
    have = next((path.stat().st_size for path in (target, part) if path.is_file()), 0)
    return Piece(target, "fetch", source, max(0, (remote.bytes or 0) - have), remote=remote, into=into)


def _sized(remote: Download) -> Download:
    """With the size that the server says, where nobody published one; as it was where it says none."""
    import httpx

    if remote.bytes is not None:
        return remote
    try:
        answer = httpx.head(remote.url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT, follow_redirects=True)
    except httpx.HTTPError:  # fetching it says so
        return remote
    length = answer.headers.get("Content-Length", "") if answer.status_code == 200 else ""
    return replace(remote, bytes=int(length)) if length.isdecimal() else remote


def _of_hub(repo: str, revision: str, inside: str, into: str | None) -> list[Piece]:
    """Of any repository: a pipeline becomes a folder of its name, one file goes where its content says."""
    commit, files = files_of(repo, revision)
    names = loaded_of(repo, files, inside)
    whole = "model_index.json" in names or "config.json" in names
    return [_of_repository(repo, commit, files[name], into, whole=whole) for name in names]


def _of_repository(repo: str, commit: str, file: WeightFile, into: str | None, *, whole: bool) -> Piece:
    source, remote = f"{repo}@{commit}/{file.name}", remote_of(repo, commit, file)
    if not whole:
        return _loose(_plain(Path(file.name).name), source, remote, into)
    target = models_folder() / repo.rpartition("/")[2] / file.name
    if not target.exists():
        return _to_fetch(target, source, remote, into)
    known = pulled_files().get(str(target))
    if known and not known.source.startswith(f"{repo}@"):
        raise PullFailed(
            f"{target} is of {known.source.partition('@')[0]}; rename that folder, then pull {repo} again."
        )
    return Piece(target, "here", source, remote=remote)


def _loose(name: str, source: str, remote: Download, into: str | None) -> Piece:
    """A file that goes where its content says: in a folder of its own until then, since many are called the same."""
    if place := _pulled_before(source, remote.digest):
        return Piece(place, "here", source)
    key = hash_json([source, remote.digest])[:12]
    return _to_fetch(models_folder() / INCOMING / key / name, source, remote, into)


def _pulled_before(source: str, digest: str) -> Path | None:
    """Where the very file lies, if it was pulled: by its digest, else by where it came from."""
    for path, known in pulled_files().items():
        if (known.digest == digest if digest else known.source == source) and Path(path).is_file():
            return Path(path)
    return None


def _of_url(url: str, into: str | None) -> list[Piece]:
    try:
        path = unquote(urlsplit(url).path)
    except ValueError as error:
        raise UsageError(f"that is no address ({error}); one begins with https://.") from None
    if civitai.is_civitai(url):
        found = civitai.civitai_file(url)
        piece = _loose(_plain(found.name), plain_url(url), found.remote, into)
        about = json.dumps(found.about, ensure_ascii=False, indent=2)
        size = max(piece.bytes, found.bytes) if piece.how == "fetch" else 0
        return [replace(piece, bytes=size, about=(".civitai.info", about))]
    if (hub := _in_hub(url)) is not None:
        repo, revision, inside = hub
        return _of_hub(repo, revision, inside, into)
    name = _plain(path.rpartition("/")[2])
    if not name.endswith((".safetensors", ".pth")):
        raise UsageError(f"{plain_url(url)} names no .safetensors or .pth file; give the address of the file itself.")
    known = next((w for w in REGISTRY.values() if w.url == url), None)
    if known:
        return _of_weight(known, None)
    piece = _loose(name, plain_url(url), Download(url), into)
    return [piece if piece.how == "here" else _loose(name, plain_url(url), _sized(Download(url)), into)]


def _plain(name: str) -> str:
    """A file's name that leads nowhere else. Raises `PullFailed`."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise PullFailed(f"'{name}' is no name for a file.")
    return name


def _in_hub(url: str) -> tuple[str, str, str] | None:
    """(repository, revision, file) of an address at the hub, "" for no file; None of another address."""
    from huggingface_hub import constants

    parts = urlsplit(url)
    if parts.netloc not in ("huggingface.co", "www.huggingface.co", "hf.co", urlsplit(constants.ENDPOINT).netloc):
        return None
    words = [unquote(word) for word in parts.path.strip("/").split("/")]
    if len(words) >= 5 and words[2] in ("resolve", "blob"):
        return "/".join(words[:2]), words[3], "/".join(words[4:])
    if len(words) >= 4 and words[2] == "tree":
        return "/".join(words[:2]), words[3], ""
    return ("/".join(words[:2]), "main", "") if len(words) == 2 else None


def pull(plan: PullPlan, progress: Callable[[int], object]) -> list[Path]:
    """Do it, file by file; stopped at any moment, the same call goes on from there.

    Returns where everything lies. `progress(bytes)` as in `fetch`. Raises `PullFailed` (also for a file that the workbench
    does not use, which stays where the error says), `NeedsToken`, `DiskFull`, `CannotWrite`.
    """
    return [_had(piece, progress) for piece in plan.pieces]


def _had(piece: Piece, progress: Callable[[int], object]) -> Path:
    if piece.how == "in place" and piece.lies:
        link(piece.lies, piece.target)
        note_pulled({piece.target: Pulled(source=piece.source)})
    if piece.how != "fetch" or piece.remote is None:
        return piece.target
    if piece.target.parent.parent.name != INCOMING:
        fetch(piece.remote, piece.target, progress)
        _note(piece, piece.target)
        return piece.target
    with locked(piece.target.parent.with_suffix(".lock")):
        if place := _pulled_before(piece.source, piece.remote.digest):  # by another process, meanwhile
            return place
        fetch(piece.remote, piece.target, progress)
        place = _settle(piece)
        _note(piece, place)
        return place


def _note(piece: Piece, place: Path) -> None:
    if piece.about:
        ending, text = piece.about
        write_atomic(place.with_suffix(ending), text.encode())
    digest = piece.remote.digest if piece.remote else ""
    note_pulled({place: Pulled(source=piece.source, digest=digest, bytes=place.stat().st_size)})


def _settle(piece: Piece) -> Path:
    """Move a file to where its content says that it belongs."""
    try:
        place = settled(piece.target, piece.into)
    except WorkbenchError as error:
        raise PullFailed(
            f"{error} It stays at {piece.target}; delete it, or say where it belongs with --into."
        ) from error
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_file() and file_sha256(place) == file_sha256(piece.target):  # put there by hand
            piece.target.unlink()
        elif place.exists():
            raise PullFailed(f"{place} is another file; rename that one, then pull again: {piece.target} is kept.")
        else:
            os.replace(piece.target, place)
        if not any(piece.target.parent.iterdir()):
            piece.target.parent.rmdir()
    return place


def check_pulled(places: Sequence[Path], weights: Sequence[Weight]) -> int:
    """How many of the files have no published digest; all others are what was published.

    Raises `PullFailed` for one that is not, which was there before.
    """
    found = [check for weight in weights for check in verify_weight(weight)]
    done = {check.path for check in found}
    found += verify_files(path for path in places if path.is_file() and path not in done)
    for check in found:
        if check.status == "wrong":
            raise PullFailed(
                f"{check.path} {check.said}; it is used as it is. Delete it and pull again for the published one."
            )
    return sum(check.status == "not published" for check in found)
