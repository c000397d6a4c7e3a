"""What the workbench itself has on the disk: finished stages, runs, weights; and what presets need of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.files import home
from workbench.models import model_path, models_folder, restorer_path
from workbench.presets import Preset, list_presets
from workbench.store import Store

from .items import Again, DiskItem, kept, linked
from .trees import KnownFolder, Removed, Tick, look, reached


@dataclass(frozen=True)
class KeptWeights:
    """Weights that a preset names.

    Attributes:
        setting: that names them, like `model`.
        name: as the preset has it.
        path: where they lie; None where they are not on this machine, and `problem` says so.
    """

    setting: str
    name: str
    path: Path | None
    problem: str = ""

    def to_json(self) -> dict[str, str | None]:
        where = None if self.path is None else str(self.path)
        return {"setting": self.setting, "name": self.name, "path": where, "problem": self.problem}


def weights_of(preset: Preset) -> list[KeptWeights]:
    """The models and the restorer that a preset needs."""
    settings = preset.settings
    names = {"model": settings.model, "refiner": settings.refiner, "vae": settings.vae}
    names = {setting: name for setting, name in names.items() if name and name not in ("auto", "base")}
    found = [_weights(setting, name, name) for setting, name in names.items()]
    if settings.restorer == "codeformer" and found and found[0].path:
        found.append(_weights("restorer", settings.restorer, None, found[0].path))
    return found


def _weights(setting: str, name: str, model: str | None, beside: Path | None = None) -> KeptWeights:
    try:
        path = model_path(model) if model is not None else restorer_path(beside or models_folder())
        return KeptWeights(setting, name, path)
    except (WorkbenchError, OSError) as error:
        return KeptWeights(setting, name, None, str(error))


def needed_of_hub(chosen: Preset | None) -> dict[str, str]:
    """{a repository's id, or a path without links: what needs it} of every preset and of every link among the models."""
    needed: dict[str, str] = {}
    for preset in [*list_presets(), *([chosen] if chosen else [])]:
        for value in preset.settings.model_dump().values():
            if isinstance(value, str) and "/" in value and len(value) < 1000:
                needed[value] = f"preset {preset.name} needs it"
                needed[os.path.realpath(os.path.expanduser(value))] = f"preset {preset.name} needs it"
    for link in _links(models_folder()):
        needed[os.path.realpath(link)] = f"{link.name} in {models_folder()} is a link to it"
    return needed


def _links(folder: Path) -> Iterator[Path]:
    if folder.is_symlink():
        yield folder
    for parent, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if (path := Path(parent, name)).is_symlink())


def own_items(tick: Tick) -> Iterator[DiskItem]:
    """The store, the runs and the weights, as far as they are on this machine."""
    yield from _store_item()
    rows = (
        ("runs", home() / "runs", "results: they are never removed here"),
        ("weights", models_folder(), "put there by you or fetched by name: they are never removed here"),
    )
    for what, folder, why in rows:
        real, is_link = reached(folder, folder.parent)
        if is_link:
            yield linked(what, str(folder))
        elif (tree := look(KnownFolder(real, (r".+",), lambda path: True), tick)) and tree.files:
            yield kept(what, tree, why)


def _store_item() -> Iterator[DiskItem]:
    store = Store.at_home()
    folder = store.folder
    if not isinstance(folder, Path) or not folder.is_dir():
        return
    size = sum(entry.size for entry in store.entries())
    if not size:
        return
    if any(path.is_symlink() for path in folder.glob("??")):
        yield DiskItem("store", str(folder), size, why="a folder in it is a link, and links are not followed")
        return
    try:
        would = store.evict(0, dry_run=True)
    except WorkbenchError as error:
        yield DiskItem("store", str(folder), size, why=str(error))
        return
    why = f"finished stages; computed again when needed, {would.seconds:.0f} s of work in all" if would.size else ""
    stays = f"running work keeps {len(store.pinned())} of its stages, or used them within the minute"
    why = "; ".join(words for words in (why, stays if would.left else "") if words)
    take = partial(_evict, store) if would.size else None
    yield DiskItem("store", str(folder), size, would.size, why, Again.WORK, take, True)


def _evict(store: Store, wanted: int, tick: Tick) -> Removed:
    """Make the store smaller by `wanted` bytes, by its own eviction, which knows what running work keeps."""
    left = store.evict(1 << 62, dry_run=True).left
    gone = store.evict(max(0, left - wanted))
    return Removed(2 * len(gone.keys), gone.size)
