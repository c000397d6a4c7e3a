"""All that `workbench doctor` looks at, in the order in which a machine is made ready."""

from __future__ import annotations

import shutil

from workbench.errors import CannotWrite, DiskFull, WorkbenchError
from workbench.files import check_writable, home
from workbench.models import LICENCES
from workbench.presets import load_preset, other_models
from workbench.store import Store, size_words, stats

from .card_line import card_finding
from .findings import Finding, found, ok, trouble
from .kept_findings import kept_or_made
from .packages import package_findings, python_finding
from .reaching import server_finding
from .trial import trial_findings
from .weight_findings import weights_here, weights_of

USUAL = "recommended"  # whose weights are looked for where no preset is named
ROOM, LEAST = 5e9, 2e8  # free bytes below which there is a warning, and below which nothing is begun


def examine(
    preset: str | None = None, url: str | None = None, *, quick: bool = False, anew: bool = False
) -> list[Finding]:
    """Look at everything that the workbench uses.

    Args:
        preset: whose weights have to be here; None: none but the embedded ones.
        url: of a server that has to answer.
        quick: leave out what needs torch: the device, the libraries, the picture.
        anew: make the picture, even where nothing has changed since the last one.

    Raises `PresetNotFound`, `BadPreset`.
    """
    wanted = load_preset(preset) if preset else None
    return [
        python_finding(),
        *package_findings(),
        card_finding(),
        found("home", "failed", _home),
        _disk(),
        *(weights_of(wanted.settings) if wanted else weights_here(load_preset(USUAL).settings)),
        *(trouble("weights", "warning", text) for text in (other_models(wanted) if wanted else ())),
        *([left_out()] if quick else kept_or_made(trial_findings, anew=anew)),
        server_finding(url),
        *(ok("licence", text) for text in LICENCES.values()),
    ]


def left_out() -> Finding:
    return ok("picture", "not made, nor device and libraries tried: --quick leaves out what needs torch")


def _home() -> str:
    try:
        check_writable(home() / "doctor")
    except (CannotWrite, DiskFull) as error:
        why = getattr(error.__cause__, "strerror", error)
        raise WorkbenchError(
            f"{home()} cannot be written, and what is made is kept there ({why}); name another folder in WORKBENCH_HOME"
        ) from None
    return f"{home()}"


def _disk() -> Finding:
    """The room for pictures and stages: a full disk stops a sweep, and a rented one is small."""
    try:
        kept = stats(Store.at_home())
        there = next(each for each in (home(), *home().parents) if each.is_dir())
        free = min(each for each in (kept.free, shutil.disk_usage(there).free) if each is not None)
    except (WorkbenchError, OSError) as error:
        return trouble("disk", "failed", error)
    said = f"{size_words(free)} are free; {kept.store} holds {size_words(kept.together.bytes)} of finished stages"
    if free >= ROOM:
        return ok("disk", said)
    remedy = "see workbench disk, and workbench disk --free 20GB; or move WORKBENCH_HOME to a bigger disk"
    return Finding("disk", "warning" if free >= LEAST else "failed", said, remedy)
