"""A local HTTP server that plays the Hugging Face hub, GitHub's releases and Civitai, and that can misbehave."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LocalHub:
    """What it serves, and how it misbehaves.

    Attributes:
        repos: {"org/name": {path: content}}.
        files: {path of the address: content}.
        json: {path of the address: JSON value}.
        cut_after: bytes of a file after which the connection is cut, each number once.
        wrong: names of files of which other bytes come than were published; a number: how often.
        status: {part of the address: HTTP status, headers}; those in `once` for one answer only.
        tokens: {part of the address: the token without which it answers 401}.
        slow: seconds before each 16 KB of a file.
        asked: how often each address was asked.
        sent: bytes of file content that were sent.
        etag: the version of all files; `honours_versions`: whether If-Range is taken notice of.
    """

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    json: dict[str, object] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    status: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)
    tokens: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0
    asked: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    url: str = ""
    etag: str = "one"
    honours_versions: bool = True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def listing(files: dict[str, bytes]) -> dict[str, object]:
    """A repository as the hub's API has it, with sizes and digests: small files are in git, large ones in LFS."""

    def sibling(name: str, content: bytes) -> dict[str, object]:
        about: dict[str, object] = {"rfilename": name, "size": len(content)}
        if name.endswith((".safetensors", ".pth")):
            lfs = {"sha256": _digest(content), "size": len(content), "pointerSize": 134}
            return {**about, "blobId": "f" * 40, "lfs": lfs}
        return {**about, "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}

    siblings = [sibling(name, content) for name, content in files.items()]
    return {"id": "x/y", "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "siblings": siblings}


@contextmanager
def serving(hub: LocalHub) -> Iterator[LocalHub]:
    """The hub at `hub.url`, until the end of `with`."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            content = hub.files.get(unquote(urlsplit(self.path).path))
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked[path] += 1
            name = path.rpartition("/")[2]
            for key in (*hub.tokens, *hub.status):
                if f"/{key}/" not in f"{path}/":
                    continue
                if key in hub.tokens and self.headers.get("Authorization") != f"Bearer {hub.tokens[key]}":
                    self.plain(401, b"", {"X-Error-Code": "GatedRepo"})
                    return
                if key in hub.status:
                    status, headers = hub.status.pop(key) if key in hub.once else hub.status[key]
                    self.plain(status, b"", headers)
                    return
            if path in hub.json:
                self.plain(200, json.dumps(hub.json[path]).encode(), {"Content-Type": "application/json"})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
                files = hub.repos.get(found[1])
                if files is None:
                    self.plain(404, b"{}", {"X-Error-Code": "RepoNotFound"})
                else:
                    self.plain(200, json.dumps(listing(files)).encode(), {"Content-Type": "application/json"})
            elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self.content(name, hub.repos.get(found[1], {}).get(found[2]))
            else:
                self.content(name, hub.files.get(path))

        def plain(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def content(self, name: str, content: bytes | None) -> None:
            if content is None:
                self.plain(404, b"", {})
                return
            if hub.wrong[name] > 0:
                hub.wrong[name] -= 1
                content = bytes(reversed(content))
            begin = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
            asked = self.headers.get("If-Range")
            begin = begin if asked in (None, f'"{hub.etag}"') or not hub.honours_versions else 0
            if begin >= len(content) > 0:
                self.plain(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.send_header("ETag", f'"{hub.etag}"')
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            self.send_body(content, begin)

        def send_body(self, content: bytes, at: int) -> None:
            while at < len(content):
                stop = next((cut for cut in hub.cut_after if cut > at), len(content))
                piece = content[at : min(at + 16_384, stop)]
                self.wfile.write(piece)
                hub.sent += len(piece)
                at += len(piece)
                if at in hub.cut_after:
                    hub.cut_after.remove(at)
                    self.close_connection = True
                    return
                threading.Event().wait(hub.slow)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Of a client that was killed."""

    server = Quiet(("127.0.0.1", 0), Answer)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
