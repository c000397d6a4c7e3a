"""What a trial found, kept until something changes that it depends on: torch alone takes longer to import than all else.

Only a trial without any failure is kept, for a day at most.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from workbench.errors import CannotWrite, DiskFull
from workbench.files import checksum_holds, hash_json, home, with_checksum, write_json

from .findings import Finding, ok

DAY = 86400.0
FINDINGS = TypeAdapter(list[Finding])
WATCHED = ("WORKBENCH_", "CUDA", "NVIDIA", "TORCH", "PYTORCH", "OMP_", "MKL_", "LD_", "HF_")  # environment variables
SYSTEM = ("/proc/sys/kernel/random/boot_id", "/proc/driver/nvidia/version")


def kept_or_made(make: Callable[[], list[Finding]], *, anew: bool = False) -> list[Finding]:
    """The findings of `make`, or those kept, which then say so; `anew`: those kept are not looked at."""
    key, path = hash_json([*_circumstances()]), home() / "cache" / "doctor.json"
    if not anew and (kept := _kept(path, key)) is not None:
        return kept
    found = make()
    try:
        if any(finding.status == "failed" for finding in found):
            path.unlink(missing_ok=True)
        else:
            record = {"key": key, "at": time.time(), "findings": FINDINGS.dump_python(found)}
            write_json(path, with_checksum(record))
    except (CannotWrite, DiskFull, OSError):  # said in a line of its own
        pass
    return found


def _kept(path: Path, key: str) -> list[Finding] | None:
    try:
        record = json.loads(path.read_bytes())
        age = time.time() - record["at"]
        if not checksum_holds(record) or record["key"] != key or not 0 <= age < DAY:
            return None
        findings = FINDINGS.validate_python(record["findings"])
        said = f"of {_ago(age)} ago: packages, files, settings and drivers are the same since; --anew makes it again"
        return [ok("trial", said), *(replace(each, said=f"{each.said} ({_ago(age)} ago)") for each in findings)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return None


def _ago(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def _circumstances() -> Iterator[str]:
    """What a trial depends on: Python, every package, our own files, the machine since it was started, cards and drivers."""
    yield from (sys.version, sys.prefix, platform.node(), platform.platform())
    yield from (f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(WATCHED))
    for name in SYSTEM:
        try:
            yield Path(name).read_text(errors="replace")
        except OSError:
            yield ""
    yield from sorted(path.name for path in Path("/dev").glob("nvidia*"))
    own = Path(__file__).parents[1]
    yield from (_mark(path) for path in sorted(own.rglob("*")) if path.is_file() and path.suffix != ".pyc")
    for folder in dict.fromkeys(sys.path):
        yield from (_mark(path) for path in sorted(Path(folder or ".").glob("*.dist-info")))


def _mark(path: Path) -> str:
    stat = path.stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"
