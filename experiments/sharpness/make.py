"""Make the score's network from nothing: sources, examples, training, report. Each file that is there already is kept."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = (("0", "1"), ("2", "3"))  # of the examples, two at a time


def start(script: str, *arguments: str) -> subprocess.Popen:
    here = {"cwd": HERE.parents[1], "env": {**os.environ, "PYTHONPATH": str(HERE.parents[1])}}
    return subprocess.Popen([sys.executable, str(HERE / script), *arguments], **here)


def wait(*runs: subprocess.Popen) -> None:
    if any([run.wait() for run in runs]):  # a list: wait for all of them
        sys.exit("a part failed: its message is above; the parts made before it are kept")


def main() -> None:
    wait(start("bank.py"))
    for pair in PARTS:
        wait(*(start("dataset.py", part) for part in pair))
    wait(start("train.py", "--everybody"))
    wait(start("check.py"))


if __name__ == "__main__":
    main()
