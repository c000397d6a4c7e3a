"""A model version at Civitai: its file's name, digest and licence, by Civitai's public API. Fetches no weights."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from workbench.errors import PullFailed

from .fetching import TIMEOUT, Download, check_status

DOWNLOAD = re.compile(r"/api/download/models/(\d+)")
TOKENS = ("CIVITAI_API_TOKEN", "CIVITAI_TOKEN", "CIVITAI_API_KEY")
TOKEN = f"{TOKENS[0]} (an API key from your account's settings)"


@dataclass(frozen=True)
class CivitaiFile:
    """Attributes: name: of the file; remote: where it is fetched; about: what Civitai says of the version, as its helpers
    keep it beside the file (`NAME.civitai.info`), from which its licence is read."""

    name: str
    remote: Download
    about: dict[str, Any]


def version_of(url: str) -> str | None:
    """The id of the model version that an address is about: of its download, or of its page; None of another address."""
    parts = urlsplit(url)
    if found := DOWNLOAD.search(parts.path):
        return found[1]
    asked = parse_qs(parts.query).get("modelVersionId", [""])[0]
    return asked if "/models/" in parts.path and asked.isdecimal() else None


def headers() -> dict[str, str]:
    token = next((os.environ[name] for name in TOKENS if os.environ.get(name)), "")
    return {"Authorization": f"Bearer {token}"} if token else {}


def civitai_file(url: str, version: str) -> CivitaiFile:
    """What is at a version. Raises `PullFailed`, `NeedsToken`."""
    import httpx

    parts = urlsplit(url)
    api = f"{parts.scheme}://{parts.netloc}/api/v1/model-versions/{version}"
    try:
        answer = httpx.get(api, headers=headers(), timeout=TIMEOUT, follow_redirects=True)
        check_status(answer.status_code, answer.headers, Download(api, token=TOKEN))
        about = answer.json()
        files = [file for file in about["files"] if file["name"].endswith(".safetensors")]
        chosen = next((file for file in files if file.get("primary")), files[0] if files else None)
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise PullFailed(
            f"{parts.netloc} does not say what its version {version} is ({error or type(error).__name__}); try again later."
        ) from error
    if chosen is None:
        raise PullFailed(f"version {version} at {parts.netloc} has no .safetensors file; take another version.")
    digest = str(chosen.get("hashes", {}).get("SHA256", "")).lower()
    return CivitaiFile(
        chosen["name"], Download(str(chosen["downloadUrl"]), digest=digest, headers=headers(), token=TOKEN), about
    )
