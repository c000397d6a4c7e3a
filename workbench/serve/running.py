"""The server as a process: it listens, and ends within five seconds."""

from __future__ import annotations

import re
import resource
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import NotServed, UsageError
from workbench.recipe import stage_keys

from .access import LOOPBACK, Access
from .app import STOP, create_app
from .connections import Connections, limited
from .in_force import InForce

if TYPE_CHECKING:
    from types import FrameType


ORIGIN = re.compile(r"(?P<scheme>https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(:\d{1,5})?")


def access_for(host: str, token: str | None, *, no_token: bool, origins: Sequence[str] = ()) -> Access:
    """Who may ask a server that listens at `host`. Raises `NotServed`: everybody could, and nobody said that they may."""
    loopback = host in LOOPBACK
    if token is not None and not token.strip():
        raise UsageError("the token is empty; give one of at least 8 characters, or leave it out.")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError(
            "the token has blanks or other than ASCII characters, which clients send in many ways; take another."
        )
    if token is not None and len(token) < 8:
        raise UsageError("the token is shorter than 8 characters, so it can be guessed; take a longer one.")
    if not loopback and token is None and not no_token:
        raise NotServed(
            f"at {host} everybody who reaches this machine could make pictures; give --token (or WORKBENCH_TOKEN), or leave "
            "the host at 127.0.0.1 and use ssh -L 7860:127.0.0.1:7860. --no-token opens it to everybody."
        )
    return Access(None if no_token else token, tuple(map(_origin, origins)), loopback, host)


def _origin(text: str) -> str:
    """As browsers write it. Raises `UsageError`."""
    found = ORIGIN.fullmatch(text.lower())
    if not found:
        raise UsageError(f"--allow-origin {text} is no origin; one is like http://localhost:3005.")
    usual = {"http": "80", "https": "443"}[found["scheme"]]
    return found[0].removesuffix(f":{usual}")


def serve(presets: InForce, host: str = "127.0.0.1", port: int = 7860, *, access: Access, **service: Any) -> None:
    """Serve until stopped. Weights are found (not loaded) first, so that a missing file is said at once.

    `service`: as `Service` takes it. Raises `UsageError`: the port is taken.
    """
    import uvicorn

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # every client that hangs on holds a file
    for name in presets.names:
        stage_keys(presets.get(name).preset.settings)
    app = create_app(presets, access=access, warm=True, **service)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.service.queue.close()  # before uvicorn waits for the answers that are still owed
            super().handle_exit(sig, frame)

    _check_port(host, port)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="info",
        server_header=False,
        proxy_headers=False,  # anybody could say in X-Forwarded-For that he is another
        access_log=False,  # it has the prompts of queries; /metrics counts
        http=limited(Connections()),
        timeout_graceful_shutdown=int(STOP),
        timeout_keep_alive=5,
    )
    Server(config).run()


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"{host}:{port} cannot be listened at ({error.strerror}); name another --port or --host."
            ) from None
