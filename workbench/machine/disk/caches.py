"""Caches whose shape is known: of pip, uv, apt, of compiled kernels, and what killed processes left in the temporary folder.

What in such a folder is not of the known shape is somebody else's, and stays.
"""

from __future__ import annotations

import getpass
import os
import re
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .in_use import Holders
from .items import Again, DiskItem, linked, removable
from .trees import KnownFolder, Tick, Tree, look, reached

DAY = 86400.0  # s; a temporary folder in which anything is younger may belong to a process that runs
APT = Path("/var/cache/apt/archives")
CACHEDIR_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # bford.info/cachedir: the folder may be deleted
PIP_TEMPORARY = (
    r"pip-(build-env|build-tracker|download|ephem-wheel-cache|install|metadata|modern-metadata|req-build|req-tracker|"
    r"standalone-pip|target|uninstall|unpack|wheel)-[a-z0-9_]{8}"
)


@dataclass(frozen=True)
class CacheShape:
    """Where a tool keeps its cache and what belongs to it.

    Attributes:
        variable: names the folder; `below` is the cache in it.
        usual: where it is without the variable: under `~/.cache` unless it begins with `~`.
        tops: see `KnownFolder`.
        files: a pattern of the paths of its files.
        locks: files that the tool holds open while it works.
        tagged: whether it bears a CACHEDIR.TAG, without which it is not taken for one, and has links in it, as uv's does.
    """

    what: str
    variable: str
    usual: str
    tops: tuple[str, ...]
    files: str
    why: str
    below: str = ""
    locks: tuple[str, ...] = ()
    tagged: bool = False

    def place(self) -> tuple[str, bool]:
        """(the folder, whether a link stands in its place)"""
        if given := os.environ.get(self.variable):
            path = Path(given).expanduser().absolute() / self.below
            return reached(path, path.parent)
        if self.usual.startswith("~"):
            return reached(Path(self.usual).expanduser(), Path.home())
        return reached(cache_home() / self.usual, below_cache_home())


SHAPES = (
    CacheShape(
        "pip downloads", "PIP_CACHE_DIR", "pip", ("http", "http-v2", "selfcheck"),
        r"http(-v2)?/([0-9a-f]/){5}[0-9a-f]{56}(\.body)?|selfcheck/[0-9a-f]{56}(\.json)?",
        "packages pip has installed already; it fetches them again when it needs them",
    ),
    CacheShape(
        "pip wheels", "PIP_CACHE_DIR", "pip", ("wheels",),
        r"wheels/([0-9a-f]{2}/){3}[0-9a-f]+/([^/]+\.whl|origin\.json)",
        "packages pip has built; it builds them again when it needs them",
    ),
    CacheShape(
        "uv cache", "UV_CACHE_DIR", "uv",
        (r"wheels-v\d+", r"sdists-v\d+", r"(simple|flat-index|interpreter|git|builds)-v\d+", r"archive-v\d+"),
        r"[a-z-]+-v\d+/.+", "packages uv has installed already; it fetches them again when it needs them",
        locks=(".lock",), tagged=True,
    ),
    CacheShape(
        "apt packages", "", "", (r"[^/]+\.deb", "partial"), r"(partial/)?[^/]+\.deb(\.FAILED)?",
        "packages apt has installed already; what `apt clean` frees", locks=("lock",),
    ),
    CacheShape(
        "Hugging Face transfer cache", "HF_XET_CACHE", "huggingface/xet", (r"[^/]+",),
        r"[^/]+/(chunk|shard)[-_]cache/.+",
        "pieces of files that are whole elsewhere; only makes fetching a similar file faster",
    ),
    CacheShape(
        "Triton kernels", "TRITON_CACHE_DIR", "~/.triton/cache", (r"[A-Z2-7]{52}|[0-9a-f]{64}",), r"[^/]+/.+",
        "compiled kernels; they are compiled again in minutes",
    ),
    CacheShape(
        "CUDA kernels", "CUDA_CACHE_PATH", "~/.nv/ComputeCache", (r"index|[0-9a-f]",), r"index|[0-9a-f]/[0-9a-f]/[0-9a-f]+",
        "compiled kernels; they are compiled again in minutes",
    ),
)  # fmt: skip
COMPILED = r"(([a-z0-9]{2}|fxgraph|aotautograd|triton|pgo|locks)/.+)"


def cache_home() -> Path:
    """`$XDG_CACHE_HOME`, else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()


def below_cache_home() -> Path:
    """The folder from which on no link is followed to a cache: what the user has named, else the home folder."""
    return cache_home() if os.environ.get("XDG_CACHE_HOME") else Path.home()


def temporary_folder() -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp").absolute()


def cache_items(holders: Holders, tick: Tick) -> Iterator[DiskItem]:
    """Every cache of a known shape that there is."""
    for shape in SHAPES:
        folder, is_link = _place(shape)
        if is_link:
            if os.path.isdir(folder):
                yield linked(shape.what, folder)
        elif (not shape.tagged or _tagged(folder)) and (tree := look(_known(shape, folder), tick)) and tree.files:
            item = removable(shape.what, [tree], shape.why, Again.PACKAGES, holders, shape.locks)
            yield (
                _linked_into(item) if shape.what == "uv cache" and os.environ.get("UV_LINK_MODE") == "symlink" else item
            )


def _place(shape: CacheShape) -> tuple[str, bool]:
    if shape.what == "apt packages":
        return reached(APT, APT.parent)
    return shape.place()


def _installs_links(uv: str) -> bool:
    """Whether uv is told to install links into its cache, or what is installed here is such."""
    installed = Path(sysconfig.get_path("purelib")).glob("*/__init__.py")
    return os.environ.get("UV_LINK_MODE") == "symlink" or any(
        path.is_symlink() and os.path.realpath(path).startswith(f"{uv}/") for path in installed
    )


def _linked_into(item: DiskItem) -> DiskItem:
    why = "uv's link mode is symlink: installed packages are links into it, and would be broken"
    return DiskItem(item.what, item.where, item.bytes, why=why, files=item.files)


def _known(shape: CacheShape, folder: str) -> KnownFolder:
    pattern, stays = re.compile(shape.files, re.S), _environments(folder) if shape.what == "uv cache" else ()
    return KnownFolder(
        folder,
        shape.tops,
        lambda path: bool(pattern.fullmatch(path)) and not path.startswith(stays),
        links=shape.tagged,
    )


def _environments(folder: str) -> tuple[str, ...]:
    """Archives of uv that are environments of `uvx` and of scripts: they may be running."""
    found = []
    for path in Path(folder).glob("environments-v*/*/*"):
        if path.is_symlink() and (target := Path(os.readlink(path))).parent.name.startswith("archive-v"):
            found.append(f"{target.parent.name}/{target.name}/")
    return tuple(found)


def _tagged(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "CACHEDIR.TAG"), "rb") as file:
            return file.read(len(CACHEDIR_TAG)) == CACHEDIR_TAG
    except OSError:
        return False


def temporary_items(holders: Holders, tick: Tick) -> Iterator[DiskItem]:
    """What lies in the temporary folder of pip, of torch's compiler and of our own killed workers, older than a day."""
    folder, is_link = reached(temporary_folder(), temporary_folder().parent)
    if is_link:
        return
    kinds = (
        ("pip's leftovers", PIP_TEMPORARY, r".+", "of installations that ended long ago"),
        ("workbench's leftovers", r"workbench-[a-z0-9_]{8}", r".+", "of worker processes that ended long ago"),
    )
    for what, name, files, why in kinds:
        if trees := list(_old_trees(folder, name, files, holders, tick)):
            yield removable(what, trees, why, Again.NOTHING, holders)
    yield from _compiler_items(folder, holders, tick)


def _compiler_items(temporary: str, holders: Holders, tick: Tick) -> Iterator[DiskItem]:
    """What torch.compile keeps; it is no leftover, so that its age does not matter, but whether it is open does."""
    if given := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        folder, is_link = reached(Path(given).absolute(), Path(given).absolute().parent)
    else:
        folder, is_link = reached(Path(temporary) / f"torchinductor_{getpass.getuser()}", Path(temporary))
    pattern = re.compile(COMPILED, re.S)
    known = KnownFolder(folder, (r"[a-z0-9]{2}|fxgraph|aotautograd|triton|pgo|locks",), _matches(pattern))
    if is_link or not _own(folder):
        return
    if (tree := look(known, tick)) and tree.files:
        yield removable(
            "torch.compile kernels", [tree], "compiled kernels; compiled again in minutes", Again.PACKAGES, holders
        )


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda path: bool(pattern.fullmatch(path))


def _old_trees(folder: str, name: str, files: str, holders: Holders, tick: Tick) -> Iterator[Tree]:
    """A tree for each folder of that name that is ours, in which nothing is younger than a day and nothing is open."""
    try:
        names = sorted(each for each in os.listdir(folder) if re.fullmatch(name, each))
    except OSError:
        return
    for each in names:
        pattern = re.compile(f"{re.escape(each)}/{files}", re.S)
        if not _own(os.path.join(folder, each)):
            continue
        tree = look(KnownFolder(folder, (re.escape(each),), _matches(pattern)), tick)
        if tree and tree.files and _old(os.path.join(folder, each), tree) and not _held(tree, holders):
            yield tree


def _own(folder: str) -> bool:
    try:
        return os.lstat(folder).st_uid == os.geteuid()
    except OSError:
        return False


def _old(folder: str, tree: Tree) -> bool:
    return time.time() - max(tree.newest, os.lstat(folder).st_mtime) > DAY


def _held(tree: Tree, holders: Holders) -> bool:
    return any(each in holders for each in (*tree.single, *tree.folders))
