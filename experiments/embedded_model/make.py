"""Make the embedded models from nothing: every part in order, each resumed from its last checkpoint.

The two UNets are trained side by side, one thread each; everything else is trained one after the other.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parents[1] / "build" / "embedded_model"


def start(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(HERE / script), *arguments])


def wait(*runs: subprocess.Popen) -> None:
    if any([run.wait() for run in runs]):  # a list: wait for all of them
        sys.exit("a part failed: its message is above; the parts made before it are kept")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="where checkpoints and parts are kept")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    kept = ("--work", str(work))
    wait(start("text.py", *kept))
    wait(start("vae.py", *kept))
    wait(start("diffusion.py", "base", *kept), start("diffusion.py", "refiner", *kept))
    wait(start("export.py", *kept))
    wait(start("restorer.py", "--work", str(work / "restorer")))
    wait(start("check.py"))


if __name__ == "__main__":
    main()
