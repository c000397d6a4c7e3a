"""Whether a server of the workbench answers."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request

from .findings import Finding, ok

PATIENCE = 5.0  # s; /health answers while a picture is being made
EXAMPLE = "give for example http://192.0.2.1:7860"
LONGEST = 2**20  # bytes of an answer


def server_finding(url: str | None) -> Finding:
    """What `GET url/health` says. `url`: with or without http://; None or "": nobody asked."""
    if not url:
        return ok("server", "not asked: give --url or set VAST_AI_URL")
    where = url if "://" in url else f"http://{url}"
    if not where.startswith(("http://", "https://")):
        return Finding("server", "failed", f"{url} is no http address", EXAMPLE)
    begun = time.perf_counter()
    try:
        with urllib.request.urlopen(f"{where.rstrip('/')}/health", timeout=PATIENCE) as answer:
            about = json.loads(answer.read(LONGEST).decode(errors="replace"))
        words = f"preset {about['preset']} of model {about['model']}"
    except urllib.error.HTTPError as error:
        return _no_server(where, f"status {error.code}")
    except (http.client.InvalidURL, UnicodeError):
        return Finding("server", "failed", f"{url} is no http address", EXAMPLE)
    except (json.JSONDecodeError, http.client.HTTPException):
        return _no_server(where, "no JSON")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        remedy = "see that workbench serve runs there with --host 0.0.0.0, and that this port is open"
        return Finding("server", "failed", f"{where} does not answer within {PATIENCE:.0f} s ({why})", remedy)
    except (KeyError, TypeError):
        return _no_server(where, "other JSON")
    took = f"{where} answers in {1000 * (time.perf_counter() - begun):.0f} ms: {words}"
    if about.get("withdrawn"):
        return Finding("server", "warning", f"{took}, but {str(about['withdrawn']).rstrip('.')}", "promote anew there")
    return ok("server", took)


def _no_server(where: str, said: str) -> Finding:
    remedy = "give the address and port that workbench serve said there"
    return Finding(
        "server", "failed", f"{where} answers, but not as a server of the workbench ({said} at /health)", remedy
    )
