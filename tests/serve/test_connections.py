"""How many connections may be open, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any

import pytest
import uvicorn
from support.servers import free_port

from workbench.serve.connections import Connections, limited

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that lets three connections in, two of an address."""
    port = free_port()
    protocol = limited(Connections(most=3, of_one=2))
    server = uvicorn.Server(uvicorn.Config(hello, port=port, http=protocol, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def opened(port: int) -> Iterator[Any]:
    with ExitStack() as stack:

        def connect(address: str) -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), 10, (address, 0)))

        yield connect


def asked(connection: socket.socket) -> tuple[int, str | None, str]:
    """(status, Retry-After, body) of an answer."""
    connection.sendall(HEAD)
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.getheader("retry-after"), answer.read().decode()


def test_one_too_many_of_an_address_is_told_when_to_come_back(opened: Any) -> None:
    first, second = opened("127.0.0.1"), opened("127.0.0.1")
    assert asked(first)[0] == asked(second)[0] == 200
    third = opened("127.0.0.1")
    status, after, words = asked(third)
    assert (status, after) == (429, "5") and "2 connections open already" in words
    assert third.recv(10) == b""  # it is closed behind the answer
    assert asked(opened("127.0.0.2"))[0] == 200  # others come in
    first.close()
    third.close()
    time.sleep(0.2)
    assert asked(opened("127.0.0.1"))[0] == 200


def test_one_too_many_in_all_is_told_when_to_come_back(opened: Any) -> None:
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        assert asked(opened(address))[0] == 200
    status, after, words = asked(opened("127.0.0.4"))
    assert (status, after) == (503, "5") and "3 connections are open" in words


def test_a_flood_is_hung_up_on(opened: Any) -> None:
    held = [opened(f"127.0.0.{n}") for n in range(2, 8)]
    time.sleep(0.2)  # until all six are counted
    with pytest.raises(OSError):
        while True:
            seventh = opened("127.0.0.8")
            seventh.sendall(HEAD)
            if not seventh.recv(10):
                raise ConnectionResetError
    assert len(held) == 6


def test_addresses_that_have_left_are_forgotten() -> None:
    connections = Connections(most=2, of_one=1)
    assert connections.opened("a") is None
    refused = connections.opened("a")
    assert refused and refused[0] == HTTPStatus.TOO_MANY_REQUESTS
    for _ in range(2):
        connections.closed("a")
    assert not connections._open and connections.opened("a") is None
