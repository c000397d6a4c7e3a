"""How many connections may be open, in all and from one address. One too many is told so, and when to come back."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .access import answer_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import H11Protocol

MOST, OF_ONE = 512, 128  # connections: a page needs six, and each that waits for a picture one
HEADER_SECONDS = 20.0  # s within which a client has to have said what it wants,
REFUSED_SECONDS = 2.0  # and one that is refused whatever it wants
RETRY_AFTER = 5  # s


class Connections:
    """Counts what is open, by address."""

    def __init__(self, most: int = MOST, of_one: int = OF_ONE) -> None:
        """`most`: connections in all; `of_one`: from one address."""
        self.most, self.of_one = most, of_one
        self._open: Counter[str] = Counter()

    def opened(self, address: str) -> tuple[HTTPStatus, str] | None:
        """Count one; (status, sentence) if it is to be refused. It counts all the same until it is `closed`."""
        self._open[address] += 1
        if self._open[address] > self.of_one:
            words = f"you have {self.of_one} connections open already; close some, or try again in {RETRY_AFTER} s."
            return HTTPStatus.TOO_MANY_REQUESTS, words
        if self._open.total() > self.most:
            words = f"{self.most} connections are open already; try again in {RETRY_AFTER} s."
            return HTTPStatus.SERVICE_UNAVAILABLE, words
        return None

    def closed(self, address: str) -> None:
        self._open[address] -= 1
        self._open += Counter()  # those with none are forgotten

    @property
    def flooded(self) -> bool:
        """Whether there are so many that one more is not even told so."""
        return self._open.total() > 2 * self.most


def limited(connections: Connections) -> type[H11Protocol]:
    """uvicorn's protocol, which holds these limits and does not wait for ever for a client to say what it wants."""
    from uvicorn.protocols.http.h11_impl import H11Protocol as Uvicorns

    class Protocol(Uvicorns):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.address = self.client[0] if self.client else ""
            refused = connections.opened(self.address)
            if refused and connections.flooded:
                transport.abort()
            elif refused:  # its request is read, or it would not read the answer
                self.app = _refusing(*refused)
            self.slow = self.loop.call_later(REFUSED_SECONDS if refused else HEADER_SECONDS, self.give_up)

        def give_up(self) -> None:
            if self.cycle is None:
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self.slow.cancel()
            connections.closed(self.address)
            super().connection_lost(exc)

    return Protocol


def _refusing(status: HTTPStatus, words: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        more = {"retry-after": str(RETRY_AFTER), "connection": "close"}
        await answer_error(send, scope["path"], status, words, more)

    return app
