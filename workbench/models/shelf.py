"""Files of a kind, like LoRAs or upscalers: from a name to the file under `$WORKBENCH_HOME/models`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import MissingWeights

from .finding import models_folder


@dataclass(frozen=True)
class Shelf:
    """Where files of one kind lie.

    Attributes:
        what: one of them, as errors call it.
        folders: under the models folder; the first is where new ones belong. The models folder itself is looked at, too.
        endings: of their names; the first may be left out in messages.
        foreign: endings of files that are found, too, so that `check` can say what is wrong with them.
        check: raises where a file must not be used.
        inside: the file that a folder of that name may hold.
        rather: what else is there, for errors.
    """

    what: str
    folders: tuple[str, ...]
    endings: tuple[str, ...]
    check: Callable[[Path], None]
    foreign: tuple[str, ...] = ()
    inside: str = ""
    rather: str = ""

    def find(self, name: str) -> Path:
        """Where a file lies.

        Args:
            name: of a file in the folders, or a folder in these, with or without its ending; or a path.

        Raises:
            MissingWeights: it says where the file was looked for. What `check` raises.
        """
        for place in self._places(name):  # os.path says of a name that is too long that it is not there, Path raises
            if self.inside and os.path.isfile(place / self.inside):
                return place / self.inside
            if os.path.isfile(place):
                self.check(place)
                return place
        stem = self._stem(name)
        there = self.files()
        deeper = [path for path in there if path.stem == stem]
        if len(deeper) == 1:
            return deeper[0]
        if deeper:
            raise MissingWeights(
                f"there are several {self.what}s '{name}': {', '.join(map(str, deeper))}; name the path of one."
            )
        if foreign := next((path for path in self.files(self.foreign) if path.stem == stem), None):
            self.check(foreign)
        near = difflib.get_close_matches(stem, [path.stem for path in there], n=1, cutoff=0.5)
        like = f" Did you mean '{near[0]}'?" if near else ""
        raise MissingWeights(
            f"the {self.what} '{name}' is not there: there is no "
            f"{models_folder() / self.folders[0] / stem}{self.endings[0]}; put the file "
            f"there, or give its path{self.rather}.{like}"
        )

    def files(self, endings: tuple[str, ...] = ()) -> list[Path]:
        """The files in the folders and the folders in these; `endings`: other ones than those that can be used."""
        folders = {os.path.realpath(models_folder() / name): models_folder() / name for name in self.folders}
        wanted = endings or self.endings
        there = (path for folder in folders.values() for path in folder.rglob("*"))
        return sorted(path for path in there if path.suffix.lower() in wanted and path.is_file())

    def _stem(self, name: str) -> str:
        return next((name.removesuffix(ending) for ending in self.endings if name.endswith(ending)), name)

    def _places(self, name: str) -> Iterator[Path]:
        for folder in (*self.folders, "."):
            place = models_folder() / folder / name
            yield from (place, *(place.with_name(place.name + ending) for ending in self.endings))
        given = Path(os.path.expanduser(name))
        if os.sep in name or name.startswith((".", "~")) or given.suffix in (*self.endings, *self.foreign):
            yield given.absolute()
            yield from (given.absolute().with_name(given.name + ending) for ending in self.endings)
