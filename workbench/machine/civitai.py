"""A model version at Civitai: its file's name, digest and licence, by Civitai's public API. Fetches no weights."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from workbench.errors import PullFailed

from .fetching import TIMEOUT, Download, TryAgain, check_status

DOWNLOAD = re.compile(r"/api/download/models/(\d+)")
TOKENS = ("CIVITAI_API_TOKEN", "CIVITAI_TOKEN", "CIVITAI_API_KEY")
TOKEN = f"{TOKENS[0]} (an API key from your account's settings)"


@dataclass(frozen=True)
class CivitaiFile:
    """Attributes: name: of the file; remote: where it is fetched; bytes: about how large it is; about: what Civitai says of
    the version, as its helpers keep it beside the file (`NAME.civitai.info`), from which its licence is read."""

    name: str
    remote: Download
    bytes: int
    about: dict[str, Any]


def is_civitai(url: str) -> bool:
    """Whether an address is Civitai's (or that of $CIVITAI_ENDPOINT, a mirror): its token goes nowhere else."""
    parts = urlsplit(url)
    if (endpoint := os.environ.get("CIVITAI_ENDPOINT")) and urlsplit(endpoint).netloc == parts.netloc:
        return True
    name = parts.hostname or ""
    return parts.scheme == "https" and (name == "civitai.com" or name.endswith(".civitai.com"))


def headers(url: str) -> dict[str, str]:
    token = next((os.environ[name] for name in TOKENS if os.environ.get(name)), "") if is_civitai(url) else ""
    return {"Authorization": f"Bearer {token}"} if token else {}


def civitai_file(url: str) -> CivitaiFile:
    """What is at an address of Civitai: of a download, or of a model's page; of a page without a version its newest.

    Raises `PullFailed`, `NeedsToken`.
    """
    parts = urlsplit(url)
    site = f"{parts.scheme}://{parts.netloc}"
    version = DOWNLOAD.search(parts.path) or re.fullmatch(
        r"(\d+)", parse_qs(parts.query).get("modelVersionId", [""])[0]
    )
    if version:
        about = _ask(f"{site}/api/v1/model-versions/{version[1]}")
    elif page := re.match(r"/models/(\d+)", parts.path):
        newest = _of(_ask(f"{site}/api/v1/models/{page[1]}"), "modelVersions")
        if not newest:
            raise PullFailed(f"the model {page[1]} at {parts.netloc} has no version to fetch.")
        about = _ask(f"{site}/api/v1/model-versions/{newest[0]['id']}")
    else:
        raise PullFailed(f"{parts.path} at {parts.netloc} is neither a model's page nor a download.")
    files = [file for file in _of(about, "files") if str(file.get("name")).endswith(".safetensors")]
    chosen = next((file for file in files if file.get("primary")), files[0] if files else None)
    if chosen is None or not chosen.get("downloadUrl"):
        raise PullFailed(f"{url.partition('?')[0]} has no .safetensors file; take another version.")
    digest, address = str((chosen.get("hashes") or {}).get("SHA256", "")).lower(), str(chosen["downloadUrl"])
    remote = Download(address, digest=digest, headers=headers(address), token=TOKEN)
    return CivitaiFile(str(chosen["name"]), remote, int(float(chosen.get("sizeKB") or 0) * 1024), about)


def _of(about: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = about.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _ask(address: str) -> dict[str, Any]:
    """A JSON object of the API."""
    import httpx

    try:
        answer = httpx.get(address, headers=headers(address), timeout=TIMEOUT, follow_redirects=True)
        check_status(answer.status_code, answer.headers, Download(address, token=TOKEN))
        about = answer.json()
        if not isinstance(about, dict):
            raise ValueError("it is no JSON object")
    except (httpx.HTTPError, ValueError, TryAgain) as error:
        raise PullFailed(
            f"{urlsplit(address).netloc} does not say what it has ({error or type(error).__name__}); try again later."
        ) from error
    return about
