"""Whether a server of the workbench answers."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any

from .findings import Finding, ok

PATIENCE = 5.0  # s; /health answers while pictures are being made
LONGEST = 2**20  # bytes of an answer
EXAMPLE = "give for example http://192.0.2.1:7860"
THERE = "see that workbench serve runs there with --host 0.0.0.0 or behind a tunnel, and that this port is open"


def server_finding(url: str | None) -> Finding:
    """What `GET url/health` and `GET url/ready` say. `url`: with or without http://; None or "": nobody asked."""
    if not url:
        return ok("server", "not asked: give --url or set VAST_AI_URL")
    where = (url if "://" in url else f"http://{url}").rstrip("/")
    if "@" in where.partition("://")[2].partition("/")[0]:
        return Finding("server", "failed", "the address has a user or password in it, which would be shown", EXAMPLE)
    if not where.startswith(("http://", "https://")):
        return Finding("server", "failed", f"{url} is no http address", EXAMPLE)
    begun = time.perf_counter()
    try:
        status, about = _answer(f"{where}/health")
        took = f"{where} answers in {1000 * (time.perf_counter() - begun):.0f} ms"
        return _said(where, took, status, about) or _readiness(where, took, about)
    except (http.client.InvalidURL, UnicodeError):
        return Finding("server", "failed", f"{url} is no http address", EXAMPLE)
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        return Finding("server", "failed", f"{where} does not answer within {PATIENCE:.0f} s ({why})", THERE)


def _answer(address: str) -> tuple[int, Any]:
    """(status, JSON) of an answer; None for what is no JSON."""
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            status, data = answer.status, answer.read(LONGEST)
    except urllib.error.HTTPError as refused:
        with refused:
            status, data = refused.code, refused.read(LONGEST)
    try:
        return status, json.loads(data)
    except (ValueError, RecursionError):
        return status, None


def _said(where: str, took: str, status: int, about: Any) -> Finding | None:
    """What is wrong with the answer of /health; None where nothing is."""
    if isinstance(about, dict) and status == 200 and {"status", "preset", "model"} <= {*about}:
        if withdrawn := str(about.get("withdrawn") or "").rstrip("."):
            return Finding(
                "server", "warning", f"{took}: preset {about['preset']}, but {withdrawn}", "promote anew there"
            )
        return None
    words = about.get("error") if isinstance(about, dict) else None
    said = str(words).rstrip(".") if words else f"status {status}, and no answer of a workbench at /health"
    return Finding("server", "failed", f"{where} refuses: {said}", "give the address that workbench serve said there")


def _readiness(where: str, took: str, about: dict[str, Any]) -> Finding:
    said = f"{took}: preset {about['preset']} of model {about['model']}"
    waiting = f", {about['waiting']} requests wait" if about.get("waiting") else ""
    if _answer(f"{where}/ready")[0] == 503:
        return Finding("server", "warning", f"{said}, but its networks are not loaded yet", "wait, or read its log")
    return ok("server", f"{said}{waiting}")
