"""Talking to a server of this machine."""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from PIL import Image


def call(url: str, method: str = "GET", timeout: float = 120) -> tuple[int, dict]:
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Until a server's process answers at an address."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            call(url)
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def picture_of(answer: dict) -> Image.Image:
    kind, _, data = answer["image"].partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))
