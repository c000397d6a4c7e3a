"""Scripts that `presets export --to script` writes, run as a stranger would."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

from workbench.models import model_path
from workbench.presets.formats import Exported


def run_script(exported: Exported, to: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The script on the embedded model, in a process of its own that imports no workbench. Its picture is `theirs.png`."""
    script = to / "script.py"
    script.write_text(exported.text)
    assert "workbench" not in {module for module, _ in imports_of(exported.text)}
    words = [
        sys.executable,
        str(script),
        "--model",
        str(model_path("embedded")),
        "--output",
        str(to / "theirs.png"),
        *more,
    ]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "WORKBENCH_HOME")}
    return subprocess.run(words, capture_output=True, text=True, env=env, cwd=to)


def imports_of(text: str) -> set[tuple[str, str]]:
    """(module, name) of what a script imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {(each.name.partition(".")[0], "") for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {(str(node.module).partition(".")[0], each.name) for each in node.names}
    return found
