"""Who may ask the server: by host, origin and token, and how large a request may be. An ASGI layer before everything else.

A web page can make a browser on this machine send requests to 127.0.0.1, and by DNS rebinding under a name of its own: so a
foreign `Host` or `Origin` is refused before anything is read.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("workbench.serve")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ONCE = frozenset({"host", "origin", "authorization", "content-length"})
OPEN = frozenset({"/health", "/ready"})  # what monitors ask, who have no token
BODY, PICTURE = 256_000, 48_000_000  # bytes of a request; of one that brings a picture
SDAPI = "/sdapi/v1/"  # where A1111's API lies
WITH_PICTURE = frozenset({f"{SDAPI}png-info"})
QUERY = 16_000  # bytes
BODY_SECONDS = 20.0  # within which a request has to be there as a whole
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
    ),
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: which requests must show; None for nobody has to.
        origins: of other web pages that may ask, like http://localhost:3005; their hosts may be in `Host`, too.
        loopback: whether the server listens to this machine alone; else it may be called by any address, but by no foreign
            name.
        host: where it listens.
    """

    token: str | None = None
    origins: tuple[str, ...] = ()
    loopback: bool = True
    host: str = "127.0.0.1"

    def refusal(self, path: str, method: str, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
        """(status, sentence) for a request that is refused; `headers`: in lower case."""
        if repeated := headers.get("repeated"):
            return HTTPStatus.BAD_REQUEST, f"the header {repeated} comes twice; send it once."
        host = headers.get("host", "")
        if not self._knows(_hostname(host)):
            return HTTPStatus.FORBIDDEN, (
                f"the server is not called {_hostname(host)[:100] or 'that'}; ask it by its address, or start it with "
                "--allow-origin."
            )
        if (origin := headers.get("origin")) is not None and not self.allows(origin, host):
            return HTTPStatus.FORBIDDEN, (
                f"pages of {origin[:100]} may not ask this server; start it with --allow-origin {origin[:100]} if they shall."
            )
        if origin is None and method != "GET" and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return HTTPStatus.FORBIDDEN, "a page of another site may not ask this server."
        if method != "OPTIONS" and path not in OPEN and not self._shows_token(headers.get("authorization", "")):
            return HTTPStatus.UNAUTHORIZED, (
                "the server wants its token: send the header 'Authorization: Bearer TOKEN', or the token as the password."
            )
        return None

    def allows(self, origin: str, host: str) -> bool:
        """Whether pages of an origin may ask: the server's own, and those that were named."""
        return origin in self.origins or origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())

    def _knows(self, name: str) -> bool:
        if name in LOOPBACK or name == self.host or name in {urlsplit(origin).hostname for origin in self.origins}:
            return True
        return not self.loopback and _is_address(name)  # no name can be rebound that is none

    def _shows_token(self, shown: str) -> bool:
        if self.token is None:
            return True
        kind, _, value = shown.partition(" ")
        value = value.strip()
        if kind.lower() == "basic":
            try:
                value = base64.b64decode(value, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        return kind.lower() in ("bearer", "basic") and hmac.compare_digest(value.encode(), self.token.encode())


def _hostname(host: str) -> str:
    """The name in a `Host` header; "" where it has what no name has."""
    if any(odd in host for odd in "@/\\#? "):
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """The ASGI layer that holds `Access`, sizes and times, and says who may read the answers."""

    def __init__(self, app: ASGIApp, access: Access, seen: Callable[[str, int, float], None]) -> None:
        """`seen(path, status, seconds)` is called with every answer; `path`: of the route, "" of none."""
        self.app, self.access, self.seen = app, access, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                self.seen(getattr(route, "path", ""), message["status"], time.perf_counter() - began)
            await send(message)

        await self._let_in(scope, receive, counted)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope["headers"])
        path, method = scope["path"], scope["method"]
        said = self.access.refusal(path, method, headers) or _too_large(scope, headers)
        origin = headers.get("origin", "")
        more = _for_pages(origin) if origin in self.access.origins else {}
        if said:
            more |= {"www-authenticate": 'Basic realm="workbench"'} if said[0] == HTTPStatus.UNAUTHORIZED else {}
            await answer_error(send, path, *said, more)
            return
        if method == "OPTIONS" and "access-control-request-method" in headers:
            await _answer(send, HTTPStatus.NO_CONTENT, {}, more)
            return
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await _with_headers(send, {**HEADERS, **more})(message)

        try:
            await self.app(scope, _Body(scope, receive), sending)
        except Exception:  # nobody foresaw it: the log has the traceback, the client must not
            log.exception("an answer failed")
            if not started:
                words = "the server failed at this; its log says more."
                await answer_error(send, path, HTTPStatus.INTERNAL_SERVER_ERROR, words, more)


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name, in lower case; "repeated": one of those that may come once and came twice."""
    found: dict[str, str] = {}
    for name, value in ((name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs):
        found |= {"repeated": name} if name in found and name in ONCE else {name: value}
    return found


def _limit(scope: Scope) -> int:
    return PICTURE if scope["path"] in WITH_PICTURE else BODY


def _too_large(scope: Scope, headers: Mapping[str, str]) -> tuple[HTTPStatus, str] | None:
    if len(scope["query_string"]) > QUERY:
        return (
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"the address is longer than {QUERY} bytes; send the prompt in the body.",
        )
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > _limit(scope):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request is larger than {_limit(scope)} bytes."
    return None


def _for_pages(origin: str) -> dict[str, str]:
    """The headers by which a browser lets a page of an allowed origin read the answer."""
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type, accept",
        "access-control-expose-headers": "x-preset, x-settings-digest, retry-after",
        "vary": "origin",
    }


class _Body:
    """The body of a request, of limited size, within limited time; what comes after it is that the client has left."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._scope, self._left, self._receive, self._whole = scope, _limit(scope), receive, False
        self._end = time.monotonic() + BODY_SECONDS

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.0, self._end - time.monotonic()))
        except TimeoutError:
            return self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request was not whole within {BODY_SECONDS:.0f} s.")
        self._left -= len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._left < 0:
            words = f"the request is larger than {_limit(self._scope)} bytes."
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
        return message

    def _refuse(self, status: HTTPStatus, words: str) -> Message:
        self._scope["refused"] = status, words
        return {"type": "http.disconnect"}


def _with_headers(send: Send, more: Mapping[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message.get("headers", [])}
            added = [(n.encode(), v.encode()) for n, v in more.items() if n.encode() not in own]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending


def error_json(path: str, words: str) -> dict[str, str]:
    """The body of an error; `path`: of the request: A1111's clients look for its sentence elsewhere."""
    more = {"detail": words, "body": "", "errors": words} if path.startswith(SDAPI) else {}
    return {"error": words, **more}


async def answer_error(send: Send, path: str, status: HTTPStatus, words: str, more: Mapping[str, str]) -> None:
    """Answer a request for `path` with an error in words; `more`: headers, in lower case."""
    await _answer(send, status, error_json(path, words), more)


async def _answer(send: Send, status: HTTPStatus, said: Mapping[str, str], more: Mapping[str, str]) -> None:
    body = json.dumps(said).encode() if said else b""
    about = {"content-type": "application/json", "content-length": str(len(body))} if body else {}
    headers = {**about, **HEADERS, **more}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": pairs})
    await send({"type": "http.response.body", "body": body})
