"""Make the score's network from nothing: sources, examples, training, report. Each file that is there already is kept."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PARTS = ("0", "1")  # of the examples, made side by side


def start(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(HERE / script), *arguments], cwd=HERE.parents[1])


def wait(*runs: subprocess.Popen) -> None:
    if any([run.wait() for run in runs]):  # a list: wait for all of them
        sys.exit("a part failed: its message is above; the parts made before it are kept")


def main() -> None:
    wait(start("enlarge.py"))
    wait(start("bank.py"))
    wait(*(start("dataset.py", part) for part in PARTS))
    wait(start("train.py"))
    wait(start("check.py"))


if __name__ == "__main__":
    main()
