"""Read a request's body within a limit, and notice a reader who hangs up.

Owns the two things that need the raw ASGI channel. Called by every POST route.
"""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from banyan.gateway.errors import ApiError, refuse

Answer = TypeVar("Answer")

# A client that is still writing cannot read our answer: swallow this many times the limit
# (keeping nothing) before closing the connection on it.
_DRAIN_FACTOR = 16


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """Return the JSON body's bytes.

    Raises:
        ApiError: 413 when the body is over the limit, 415 when it is not declared as JSON.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Also keeps web pages of other sites from posting here without a CORS check.
        raise ApiError(
            415,
            f"the body's Content-Type is {media_type or 'missing'}; send application/json",
            code="unsupported_media_type",
        )
    chunks: list[bytes] = []
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes <= limit_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
        if num_bytes > limit_bytes * _DRAIN_FACTOR:
            break
    if num_bytes > limit_bytes:
        raise ApiError(
            413,
            f"the body is over the limit of {limit_bytes} bytes; send less, or start the "
            "server with a larger --max-body-megabytes",
            code="request_too_large",
        )
    if not num_bytes:
        raise refuse("the body is empty; send a JSON object", code="invalid_json")
    return b"".join(chunks)


async def wait_for_hang_up(receive: Receive) -> None:
    """Return when the reader has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_hung_up(receive: Receive, work: Coroutine[None, None, Answer]) -> Answer:
    """Await `work`, but cancel it the moment the reader hangs up.

    Raises:
        ClientDisconnect: the reader went away first.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(wait_for_hang_up(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
