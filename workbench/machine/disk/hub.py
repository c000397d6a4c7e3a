"""The Hugging Face cache: by repository, what a preset on this machine needs and what nothing here does."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .caches import below_cache_home, cache_home
from .in_use import Holders
from .items import Again, DiskItem, kept, linked, removable
from .trees import KnownFolder, Tick, Tree, look, reached

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, CachedRevisionInfo

HOUR = 3600.0  # s; half a file that was written to later than this may still be coming
REPOSITORY = r"(models|datasets|spaces)--.+"
BLOB = re.compile(r"blobs/[0-9a-f]{32,64}(-\d+)?")


def hub_folder() -> tuple[str, bool]:
    """(the cache, whether a link stands in its place): $HF_HUB_CACHE, `hub` in $HF_HOME, or in `~/.cache/huggingface`."""
    if given := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        path = Path(given).expanduser().absolute()
        return reached(path, path.parent)
    if given := os.environ.get("HF_HOME"):
        path = Path(given).expanduser().absolute()
        return reached(path / "hub", path)
    return reached(cache_home() / "huggingface" / "hub", below_cache_home())


def hub_items(needed: Mapping[str, str], holders: Holders, tick: Tick) -> Iterator[DiskItem]:
    """A row for each part of a repository, and one for downloads that were broken off.

    Args:
        needed: {the id of a repository, or a path without links: what needs it}.
    """
    folder, is_link = hub_folder()
    if is_link and os.path.isdir(folder):
        yield linked("Hugging Face cache", folder)
    if is_link or not os.path.isdir(folder):
        return
    from huggingface_hub import scan_cache_dir

    try:
        found = scan_cache_dir(folder)
    except OSError as error:
        yield DiskItem("Hugging Face cache", folder, 0, why=f"cannot be read ({error.strerror})")
        return
    lost = _without_revision(folder)
    if broken := look(KnownFolder(folder, (REPOSITORY,), lambda path: _broken_off(path, lost)), tick):
        if broken.files and time.time() - broken.newest > HOUR:
            yield removable("broken-off downloads", [broken], "half files, of no use", Again.NOTHING, holders)
        elif broken.files:
            why = "half files, but they changed within the hour: a download may be running"
            yield DiskItem("broken-off downloads", folder, broken.bytes, why=why, files=set(broken.files))
    for repo in sorted((r for r in found.repos if r.repo_path.name not in lost), key=lambda repo: repo.repo_path.name):
        yield from _repo_items(repo, needed, holders, tick)
    for warning in (text for text in map(str, found.warnings) if not any(name in text for name in lost)):
        yield DiskItem("damaged repository", folder, 0, why=f"is not touched: {warning}")


def _without_revision(folder: str) -> set[str]:
    """Repositories with nothing in `snapshots`: fetching or removing them was broken off, and their blobs are of no use."""
    names = {name for name in os.listdir(folder) if re.fullmatch(REPOSITORY, name)}
    return {
        name for name in names if not any(files for _, _, files in os.walk(os.path.join(folder, name, "snapshots")))
    }


def _broken_off(path: str, lost: set[str]) -> bool:
    repository, _, inner = path.partition("/")
    incomplete = inner.startswith("blobs/") and inner.count("/") == 1 and inner.endswith(".incomplete")
    return incomplete or (repository in lost and BLOB.fullmatch(inner) is not None)


def _repo_items(repo: CachedRepoInfo, needed: Mapping[str, str], holders: Holders, tick: Tick) -> Iterator[DiskItem]:
    if repo.repo_path.is_symlink():
        yield linked(repo.repo_id, str(repo.repo_path))
        return
    what = repo.repo_id if repo.repo_type == "model" else f"{repo.repo_id} ({repo.repo_type})"
    needs = {revision: why for revision in repo.revisions if (why := _need(repo, revision, needed))}
    if needs and (tree := _look(repo, frozenset(needs), tick)) and tree.files:
        yield kept(what, tree, f"{_names(needs)}, kept: {'; '.join(sorted(set(needs.values())))}")
    old = _superseded(repo) - needs.keys()
    first = _look(repo, old, tick) if old else None
    if first and first.files:
        yield removable(f"{what}, old", [first], _old_words(old), Again.NOTHING, holders)
    others = repo.revisions - old - needs.keys()
    tree = _look(repo, others if needs else repo.revisions, tick) if others else None
    if tree and tree.files:
        item = removable(what, [tree], f"{_names(others)}: no preset here needs it", Again.WEIGHTS, holders)
        yield _without(item, first) if first and not needs else item


def _without(item: DiskItem, part: Tree) -> DiskItem:
    """The row of a whole repository beside which a part of it has a row of its own, which goes before it."""
    free = max(0, item.free - part.free) if item.free else 0
    return replace(item, bytes=item.bytes - part.bytes, free=free)


def _need(repo: CachedRepoInfo, revision: CachedRevisionInfo, needed: Mapping[str, str]) -> str | None:
    """What on this machine needs a revision: it names the repository, or a path that leads into the revision."""
    if repo.repo_type == "model" and repo.repo_id in needed and (revision.refs or not _superseded(repo)):
        return needed[repo.repo_id]
    folder, blobs = f"{revision.snapshot_path}/", {str(file.blob_path) for file in revision.files}
    for path, why in needed.items():
        if f"{path}/".startswith(folder) or path in blobs or folder.startswith(f"{path}/"):
            return why
    return None


def _superseded(repo: CachedRepoInfo) -> frozenset[CachedRevisionInfo]:
    """Revisions that nothing refers to, where another is referred to.

    A repository of which none is was fetched by the hash of a commit: that one is no old version but the wanted one.
    """
    old = frozenset(revision for revision in repo.revisions if not revision.refs)
    return old if len(old) < len(repo.revisions) else frozenset()


def _old_words(old: frozenset[CachedRevisionInfo]) -> str:
    return f"{_names(old)}: replaced by a newer revision, and nothing refers to it"


def _names(revisions: Iterable[CachedRevisionInfo]) -> str:
    """`revision 9338f7b6 (main)`"""
    names = sorted(f"{each.commit_hash[:8]} ({', '.join(sorted(each.refs)) or 'detached'})" for each in revisions)
    return f"revision{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _look(repo: CachedRepoInfo, revisions: frozenset[CachedRevisionInfo], tick: Tick) -> Tree | None:
    """What would go with these revisions: their snapshots, and the blobs that no other revision has.

    A snapshot consists of links to blobs. A file or another link in it is its user's own, and stays.
    """
    folder, others = str(repo.repo_path), repo.revisions - revisions
    shared = {file.blob_path for revision in others for file in revision.files}
    own = {file.blob_path for revision in revisions for file in revision.files} - shared
    gone = {f"blobs/{path.name}" for path in own if path.parent == repo.repo_path / "blobs"}
    gone |= {f"refs/{ref}" for revision in revisions for ref in revision.refs}
    inside = tuple(f"{part}/{revision.commit_hash}/" for part in ("snapshots", ".no_exist") for revision in revisions)

    def wanted(path: str) -> bool:
        if path in gone or (not others and BLOB.fullmatch(path)):
            return True
        return path.startswith(inside) and (path.startswith(".no_exist") or _links_to_blob(folder, path))

    return look(KnownFolder(folder, ("refs", "snapshots", r"\.no_exist", "blobs"), wanted, itself=not others), tick)


def _links_to_blob(folder: str, path: str) -> bool:
    try:
        target = os.path.join(folder, os.path.dirname(path), os.readlink(os.path.join(folder, path)))
    except OSError:
        return False
    return os.path.dirname(os.path.abspath(target)) == os.path.join(folder, "blobs")
