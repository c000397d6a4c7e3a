"""An order on its way: it is made while whoever asked stays, and what goes wrong is told in words."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import Request

from workbench.errors import Cancelled, OutOfMemory, QueueFull, ServerStopping, UsageError, WorkbenchError
from workbench.recipe import Result

from .in_force import public_words
from .queueing import Order, PictureQueue

PREVIEW = 384  # px of the longer side of a picture that is not finished


def told(error: BaseException) -> tuple[int, str, dict[str, str]]:
    """(HTTP status, sentence, headers) of an error, with no path of this machine."""
    if isinstance(error, QueueFull):
        status = HTTPStatus.TOO_MANY_REQUESTS if error.yours else HTTPStatus.SERVICE_UNAVAILABLE
        return status, str(error), {"Retry-After": f"{max(1, round(error.retry_after))}"}
    if isinstance(error, ServerStopping):
        return HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "60"}
    if isinstance(error, Cancelled):
        return HTTPStatus.CONFLICT, "the order was interrupted before its first picture was finished.", {}
    if isinstance(error, UsageError):
        return HTTPStatus.UNPROCESSABLE_ENTITY, public_words(str(error)), {}
    if isinstance(error, OutOfMemory):
        words = "the server has not enough memory for this picture; ask for a smaller one, or again later."
        return HTTPStatus.SERVICE_UNAVAILABLE, words, {"Retry-After": "10"}
    if isinstance(error, WorkbenchError):
        words = "the server cannot make pictures now; whoever runs it finds the reason in its log."
        return HTTPStatus.SERVICE_UNAVAILABLE, words, {"Retry-After": "60"}
    return HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed at this picture; its log says more.", {}


def client_of(request: Request) -> str:
    return request.client.host if request.client else ""


async def make(queue: PictureQueue, order: Order, request: Request) -> list[Result]:
    """The pictures, when it was their turn. A client that leaves takes its order along.

    Raises `QueueFull`, `ServerStopping`, `Cancelled`, or what making them raised.
    """
    queue.put(order)
    made = asyncio.wrap_future(order.made)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait([made, gone], return_when=asyncio.FIRST_COMPLETED)
        if not made.done():
            raise Cancelled("whoever asked has left.")  # nobody reads it
        if made.cancelled():
            raise Cancelled("the order was interrupted while it waited.")
        return made.result()
    finally:
        queue.drop(order)
        gone.cancel()
        made.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
