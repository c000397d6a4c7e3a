"""Where the modules went that a notebook of before names: `from workbench.ui import Tuner` still finds the tuner.

A notebook is its user's own file, kept and copied, so it outlives the layout it was written for. The names below are all that
the shipped notebooks of version 0.1 took from the insides of the package; nothing else of ours imports by them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "challenges": "promotion",
    "heatmaps": "scores",
    "images": "files",
    "lessons": "scores.lessons",
    "page": "report",
    "plots": "report.plots",
    "specs": "sweeps",
    "ui": "notebook.widgets",
}


class FormerNames(MetaPathFinder, Loader):
    """Finds `workbench.<former name>`, which is then the very module that stands there now."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return spec_from_loader(fullname, self) if package == "workbench" and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"workbench.{MOVED[spec.name.partition('.')[2]]}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been run under its own name, and takes its own spec back, which the import machinery has just replaced."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def install() -> None:
    sys.meta_path.append(FormerNames())
