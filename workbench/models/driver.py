"""The NVIDIA cards of this machine, as their driver tells of them, and the build of torch that runs on them.

`make install` runs this file as a script before anything is installed, so that it imports the standard library alone.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

Capability = tuple[int, int]

PATIENCE = 30.0  # s for nvidia-smi, which takes up to one; of a card that fell off its bus it never answers
CUDA_OF_DRIVERS = ((580, 13), (525, 12), (450, 11))  # from this driver on, builds for this major version of CUDA run
OLDEST_OF_13: Capability = (7, 5)  # compute capability; builds for CUDA 13 left out Maxwell, Pascal and Volta
NEWEST_OF_126: Capability = (9, 0)  # builds for CUDA 12.6 know no Blackwell, those for 12.8 do
OLDEST: Capability = (5, 0)  # Kepler was left out before torch 2.9
PROC = Path("/proc/driver/nvidia")  # is seen in a container too that was started without the card
DEVICES = Path("/dev")
PCI = Path("/sys/bus/pci/devices")
CANNOT = "there is an NVIDIA card here that torch cannot use"
CUDA_PACKAGES = re.compile(r"(nvidia|cuda)-|triton$")  # what a build of torch brings with it


@dataclass(frozen=True)
class Card:
    """One NVIDIA card.

    Attributes:
        driver: the driver's version, like "550.54.14".
        memory_bytes: all of its memory; None where it shares the machine's, or nobody said.
        capability: its compute capability, (9, 0) of an H100; None from drivers before 510, which do not say it.
    """

    name: str
    driver: str
    memory_bytes: int | None = None
    capability: Capability | None = None


@dataclass(frozen=True)
class DriverReport:
    """What the driver says.

    Attributes:
        cuda: the major version of CUDA that it runs builds for; None without a card.
        trouble: why there are cards of which it says nothing, with what to do, as half a sentence.
    """

    cards: tuple[Card, ...] = ()
    cuda: int | None = None
    trouble: str | None = None


@dataclass(frozen=True)
class TorchBuild:
    """The build of torch to install.

    Attributes:
        backend: uv's word for it, like "cu126"; None: the one in the lock.
        why: a sentence; empty where there is no card to choose for.
        helps: whether this build can use the best card here.
    """

    backend: str | None
    why: str
    helps: bool = True


@cache
def driver_report() -> DriverReport:
    """Ask the driver, once a process; takes up to two seconds where there is an `nvidia-smi`, no time elsewhere."""
    program = shutil.which("nvidia-smi")
    if not program:
        return _from_proc()
    cards, trouble = _cards(program)
    if trouble and not _on_the_bus():  # an image with the driver, on a machine without a card
        trouble = None
    return DriverReport(cards, _cuda(program, cards[0].driver) if cards else None, trouble)


def cards() -> list[Card]:
    """The NVIDIA cards of this machine, whether torch can use them or not."""
    return list(driver_report().cards)


def _cards(program: str) -> tuple[tuple[Card, ...], str | None]:
    fields = "name,driver_version,memory.total"
    said, trouble = _ask(program, f"--query-gpu={fields},compute_cap", "--format=csv,noheader,nounits")
    if trouble and "compute_cap" in trouble:
        said, trouble = _ask(program, f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    found = tuple(card for line in said.splitlines() if (card := _card(line)))
    return found, None if found else trouble


def _card(line: str) -> Card | None:
    """A card from a line like "NVIDIA H100 80GB HBM3, 550.54.14, 81559, 9.0"; None of another line."""
    name, *rest = (word.strip() for word in line.split(","))
    if len(rest) < 2 or not re.match(r"\d", rest[0]):
        return None
    memory = int(rest[1]) * 2**20 if rest[1].isdecimal() else None  # "[N/A]" where card and processor share it
    capability = re.fullmatch(r"(\d+)\.(\d+)", rest[2]) if len(rest) > 2 else None
    return Card(name, rest[0], memory, (int(capability[1]), int(capability[2])) if capability else None)


def _ask(program: str, *words: str) -> tuple[str, str | None]:
    """(what nvidia-smi says, None), or ("", what is wrong with it, as half a sentence)."""
    try:
        done = subprocess.run(
            [program, *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return "", f"nvidia-smi did not answer within {PATIENCE:.0f} s; restart the machine"
    except OSError as error:
        return "", f"nvidia-smi does not run ({error.strerror}); install the driver again"
    if done.returncode == 0:
        return done.stdout, None
    lines = f"{done.stdout}\n{done.stderr}".split("\n")
    first = next((line.strip() for line in lines if line.strip()), f"status {done.returncode}")
    if first.startswith("No devices were found"):
        return "", None
    return "", f"nvidia-smi fails ({first.rstrip('.')}); restart the machine, or install the driver again"


def _cuda(program: str, driver: str) -> int | None:
    """What nvidia-smi says at its head; a container may bring a newer one than the driver's own."""
    said, _ = _ask(program)
    found = re.search(r"CUDA (?:\w+ )?Version\s*:\s*(\d+)\.\d", said)
    return int(found[1]) if found else _cuda_of(driver)


def _cuda_of(driver: str) -> int | None:
    major = int(driver.partition(".")[0])
    return next((cuda for least, cuda in CUDA_OF_DRIVERS if major >= least), None)


def _from_proc() -> DriverReport:
    """Without an nvidia-smi: the kernel's own word."""
    names = [_model(path) for path in sorted(PROC.glob("gpus/*/information"))]
    if not names:
        return DriverReport()
    if not (DEVICES / "nvidiactl").exists():
        return DriverReport(
            trouble=f"this container was started without the {names[0]} of its machine; "
            "start it with the NVIDIA runtime, for example docker run --gpus all"
        )
    driver = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)\s", _text(PROC / "version"))
    if not driver:
        return DriverReport(trouble="its driver does not say its version; install the driver again, with nvidia-smi")
    return DriverReport(tuple(Card(name, driver[1]) for name in names), _cuda_of(driver[1]))


def _model(path: Path) -> str:
    found = re.search(r"^Model:\s*(.+?)\s*$", _text(path), re.M)
    return found[1] if found else "NVIDIA card"


def _on_the_bus() -> bool:
    """Whether the machine has a graphics card of NVIDIA's, with a driver or without one."""
    return any(
        _text(device / "vendor").strip() == "0x10de" and _text(device / "class").startswith("0x03")
        for device in PCI.glob("*")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


# --- what torch can use --------------------------------------------------------------------------------------------


def choose_build(report: DriverReport, locked: int) -> TorchBuild:
    """The build of torch that the best card here and its driver run, where the lock's is built for CUDA `locked`."""
    if not report.cards:
        return TorchBuild(None, "")
    best = max(report.cards, key=lambda card: card.capability or OLDEST_OF_13)
    driver, able, cuda = best.driver.partition(".")[0], best.capability or OLDEST_OF_13, report.cuda or 0
    runs = f"driver {driver} runs CUDA {cuda} builds" if cuda else f"driver {driver} is older than 450"
    if cuda < 12:
        return TorchBuild(None, f"{runs}, and torch 2.9 and newer have none; install driver 580 or newer", False)
    if able < OLDEST:
        return TorchBuild(None, f"{best.name} is too old: its {_words(able)} is below {_words(OLDEST)}", False)
    if able < OLDEST_OF_13:
        return TorchBuild("cu126", f"{best.name} ({_words(able)}) is too old for the lock's CUDA {locked} build")
    if cuda >= locked:
        return TorchBuild(None, f"{runs}, as the lock's is")
    return TorchBuild("cu128" if able > NEWEST_OF_126 else "cu126", f"{runs}, the lock's torch is built for {locked}")


def _words(capability: Capability) -> str:
    return f"compute capability {capability[0]}.{capability[1]}"


def unseen_card(torch_cuda: str | None, torch_words: str = "") -> str | None:
    """Why torch sees none of the cards here, and what to do, as a sentence without its full stop; None without a card.

    `torch_cuda`: the version of CUDA that torch is built for, None of a build without it; `torch_words`: its own error.
    """
    report, hidden = driver_report(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):  # somebody wanted no card
        return None
    if not report.cards:
        return f"{CANNOT}: {report.trouble}" if report.trouble else None
    driver, built = report.cards[0].driver.partition(".")[0], int((torch_cuda or "0").partition(".")[0])
    if not built:
        return f"{CANNOT}: this torch is built without CUDA; run make install"
    if (report.cuda or 0) < built:
        runs = f"driver {driver} runs CUDA {report.cuda} builds" if report.cuda else f"driver {driver} is too old"
        choice = choose_build(report, built)
        todo = "run make install" if choice.helps else "install driver 580 or newer"
        return f"{CANNOT}: {runs}, this torch is built for {built}; {todo}"
    if hidden is not None:
        return f"{CANNOT}: CUDA_VISIBLE_DEVICES is '{hidden}' and names no card of this machine; unset it"
    words = f" ({torch_words})" if torch_words else ""
    return (
        f"{CANNOT}, though driver {driver} runs this build{words}; restart the machine if its driver was just updated"
    )


def unfit_card(torch_cuda: str | None, capability: Capability, architectures: Sequence[str]) -> str | None:
    """Why a card that torch sees runs nothing, and what to do; None of one that does.

    `architectures`: what torch's kernels are compiled for, like "sm_86", which runs on 8.6 to 8.9, or "compute_120", which
    runs on 12.0 and everything after it.
    """
    known = [found for word in architectures if (found := re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", word))]
    for kind, major, minor in (found.groups() for found in known):
        lowest = (int(major), int(minor))
        if lowest <= capability and (kind == "compute" or lowest[0] == capability[0]):
            return None
    if not known:
        return None
    named = [(int(found[2]), int(found[3])) for found in known]
    old, newest = capability < min(named), not (torch_cuda or "").startswith("12.")
    hopeless = capability < OLDEST if old else newest
    todo = "no torch that the workbench runs on is built for it" if hopeless else "run make install"
    return (
        f"{CANNOT}: its {_words(capability)} is too {'old' if old else 'new'} for this torch, which is built for "
        f"{'.'.join(map(str, min(named)))} to {'.'.join(map(str, max(named)))}; {todo}"
    )


# --- make install --------------------------------------------------------------------------------------------------

INSTEAD = "torch for the card could not be installed; to work on the CPU, run make install WORKBENCH_DEVICE=cpu\n"


def locked_cuda(lock: str) -> int:
    """The major version of CUDA that a lock's torch is built for, from the libraries pinned beside it; 0 of none."""
    found = re.search(r"^nvidia-\w+-cu(\d+)==", lock, re.M)
    return int(found[1]) if found else 0


def installed_cuda() -> str | None:
    """What the torch of this environment is built for, like "13.2" or "none"; None where there is no torch.

    Read from its files: to import it takes seconds.
    """
    spec = importlib.util.find_spec("torch")
    if not spec or not spec.origin:
        return None
    found = re.search(r"^cuda\b.*= '([\d.]+)'", _text(Path(spec.origin).with_name("version.py")), re.M)
    return found[1] if found else "none"


def fits(installed: str | None, backend: str | None, locked: int) -> bool:
    """Whether the installed torch is of the chosen build."""
    if backend is None:
        return installed is not None and installed.partition(".")[0] == str(locked)
    wanted = re.fullmatch(r"cu(\d+)(\d)", backend)
    if backend == "cpu":
        return installed is None
    return installed is not None and (not wanted or installed.startswith(f"{wanted[1]}.{wanted[2]}"))


def requirements(lock: str, backend: str | None) -> str:
    """The lock for a build: for another than its own without the CUDA libraries, which torch then brings itself.

    torch and torchvision are no longer pinned there, but at most what the lock says: 2.15 is not built for CUDA 12 at all,
    and 2.14 is the last one that is.
    """
    if backend is None:
        return lock
    kept = [line for line in lock.splitlines() if not CUDA_PACKAGES.match(_package(line))]
    return "\n".join(re.sub(r"^(torch|torchvision)==", r"\1<=", line) for line in kept) + "\n"


def _package(line: str) -> str:
    return re.split(r"[=<>!~ ;\[]", line, maxsplit=1)[0]


def uv_commands(backend: str | None, installed: str | None, locked: int, packages: Iterable[str]) -> list[list[str]]:
    """What uv has to be told, in order; it reads the requirements from its standard input.

    Libraries of another build go first: cuDNN's for CUDA 12 and for 13 lie in the same files, and uninstalling the one
    afterwards would take the other's. Before that it is tried whether the new build is to be had, or a torch that cannot use
    the card would become one that cannot be imported. `packages`: what is installed.
    """
    other = installed is not None and not fits(installed, backend, locked)
    brought = sorted(name for name in packages if CUDA_PACKAGES.match(name)) if other else []
    anew = ["--reinstall-package", "torch", "--reinstall-package", "torchvision"] if other else []
    build = ["--torch-backend", backend, "-r", "pyproject.toml"] if backend else []  # its lowest torch is ours, too
    install = ["pip", "install", "--quiet", *build, *anew, "-r", "-"]
    if not brought:
        return [install]
    return [[*install, "--dry-run"], ["pip", "uninstall", "--quiet", *brought], install]


def main(only_mend: bool) -> int:
    """Install what the lock says, with a torch for this machine; `only_mend`: only if the installed one is another build.

    UV_TORCH_BACKEND, uv's own variable, names another build than the one chosen here; with WORKBENCH_DEVICE=cpu no card
    is looked for.
    """
    from importlib.metadata import distributions

    lock = Path("requirements.lock").read_text()
    locked, installed = locked_cuda(lock), installed_cuda()
    report = DriverReport() if os.environ.get("WORKBENCH_DEVICE") == "cpu" else driver_report()
    build = choose_build(report, locked)
    backend = os.environ.get("UV_TORCH_BACKEND") or build.backend
    if only_mend and (not build.why or not build.helps or fits(installed, backend, locked)):
        return 0
    if not backend and not (build.why and build.helps):  # nothing to choose for: what is installed may stay
        installed = None
    if build.why:
        sys.stderr.write(f"\ntorch: {f'the build {backend}' if backend else 'the build in the lock'} ({build.why})\n")
    uv = [str(Path(sys.prefix, "bin", "uv"))]
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    packages = [str(found.metadata["Name"]).lower().replace("_", "-") for found in distributions()]
    for words in uv_commands(backend, installed, locked, packages):
        done = subprocess.run([*uv, *words], input=requirements(lock, backend), text=True, env=environment)
        if done.returncode:
            sys.stderr.write(INSTEAD if build.why else "")
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(only_mend="--mend" in sys.argv[1:]))
