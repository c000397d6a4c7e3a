"""The command `doctor`: whether all is well on this machine, line by line, and what to do where it is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import UsageError, WorkbenchError

from .alive import alive
from .terminal import Json, Quiet, say

if TYPE_CHECKING:
    from workbench.machine import Finding

SERVER = "VAST_AI_URL"


def doctor(
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Whose weights have to be here; else those that are here.")
    ] = None,
    url: Annotated[str | None, typer.Option(help=f"A server that has to answer; ${SERVER}, if left out.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what needs torch: device, libraries, picture.")
    ] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Make the picture even if nothing has changed since.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check this machine: packages, disk, weights, device, a small picture and its face, the server. Exit 1 if one failed.

    Device, libraries and picture are tried again when anything has changed that they depend on, or after a day; otherwise
    the lines say when that was. A warning costs some feature; what has failed is in the way.

    Example: workbench doctor
    Example: workbench doctor --preset recommended --url http://192.0.2.1:7860
    """
    from workbench.machine import examine

    if quick and anew:
        raise UsageError("--quick leaves out the picture that --anew makes; give one of them.")
    with alive("looking at weights, and making a small picture if anything is new", quiet or as_json):
        findings = examine(preset, url or os.environ.get(SERVER), quick=quick, anew=anew)
    say([finding.to_json() for finding in findings], as_json, lambda: "\n".join(map(_words, findings)))
    if bad := [finding.what for finding in findings if finding.status == "failed"]:
        raise WorkbenchError(f"{', '.join(bad)} failed; what to do is said above.")


def _words(finding: Finding) -> str:
    remedy = f"\n         -> {finding.remedy}" if finding.remedy else ""
    return f"{finding.status:<8} {finding.what}: {finding.said}{remedy}"
