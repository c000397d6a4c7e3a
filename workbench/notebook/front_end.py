"""Front end or none: whether a person has this notebook open, or a program runs it and keeps its outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import UsageError

BATCH_TOOLS = {"papermill", "jupyter-nbconvert", "jupyter-execute", "nbconvert", "workbench", "workbench.cli"}


def headless() -> bool:
    """Whether nobody could press the widgets of this notebook, so that it shows still pictures instead.

    `WORKBENCH_WIDGETS` ("on" or "off") decides. Where it is not set, there is a front end if a Jupyter server or VS Code
    started this kernel. A kernel of papermill, nbconvert or `workbench notebook run` has none, though one that is started in
    a terminal of JupyterLab has the variables of its server. Raises `UsageError` for another value.
    """
    said = os.environ.get("WORKBENCH_WIDGETS", "").strip().lower()
    if said in ("on", "off"):
        return said == "off"
    if said:
        raise UsageError(f"WORKBENCH_WIDGETS = '{said}' is not allowed; it must be on or off, or not be set.")
    if not {"JPY_SESSION_NAME", "VSCODE_PID"} & set(os.environ):
        return True
    import psutil

    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
    except psutil.Error:  # another user's process: a server that starts kernels for others
        return False
    return not BATCH_TOOLS.isdisjoint(Path(word).name for word in words[:4])


@contextmanager
def without_widgets() -> Iterator[None]:
    """In kernels that are started meanwhile, `headless()` is true."""
    before = os.environ.get("WORKBENCH_WIDGETS")
    os.environ["WORKBENCH_WIDGETS"] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["WORKBENCH_WIDGETS"]
        else:
            os.environ["WORKBENCH_WIDGETS"] = before
