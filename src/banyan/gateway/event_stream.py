"""Server-sent events, written until the reader hangs up.

Owns the ASGI side of a stream. The routes hand over ready-made JSON; a failure after the first
byte becomes an `error` event, because the status is gone by then.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeAlias

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from banyan.foundation.errors import BanyanError
from banyan.gateway.body import unless_hung_up
from banyan.gateway.errors import error_body, to_api_error

_logger = logging.getLogger(__name__)

DONE = b"[DONE]"

Item: TypeAlias = bytes | tuple[str, bytes]


class EventStream(Response):
    """Sends each item of `events` as one event, then `ending` (None: nothing more).

    An item is the JSON of an event, or the event's name and its JSON. The generator is always
    closed, so that a reader who leaves frees what it holds at once.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Item, None], *, ending: bytes | None = DONE) -> None:
        self._events = events
        self._ending = ending
        self.status_code = 200
        self.background = None
        # Proxies such as nginx would otherwise collect the events before passing them on.
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the stream; return early, having closed the generator, when the reader leaves."""
        async with aclosing(self._events):
            try:
                await unless_hung_up(receive, self._write(send))
            except ClientDisconnect:
                return

    async def _write(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
        )
        try:
            async for item in self._events:
                name, data = item if isinstance(item, tuple) else (None, item)
                await _send_event(send, data, name=name)
            if self._ending is not None:
                await _send_event(send, self._ending)
        except Exception as error:
            # Ours say all in one sentence, and an engine that ends fails every stream at once.
            trace = None if isinstance(error, BanyanError) else error
            _logger.error("a stream failed after its first byte: %s", error, exc_info=trace)
            await _send_event(send, error_body(to_api_error(error)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_event(send: Send, data: bytes, *, name: str | None = None) -> None:
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    body = head + b"data: " + data + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
