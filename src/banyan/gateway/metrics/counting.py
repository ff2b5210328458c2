"""ASGI middleware that counts each answer and gives it an id."""

import re
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from banyan.gateway.endpoints import route_of
from banyan.gateway.metrics.metrics import Metrics

_ID = re.compile(rb"[\w.:-]{1,128}")


class CountRequests:
    """Counts answers by path and status; unknown paths share one label.

    Each answer carries `X-Request-Id`, by which SDKs name it: the caller's own or a new one.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note the status of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Unknown paths are counted as one: a scanner cannot fill the registry with names.
        route = route_of(scope["path"])
        is_work = scope["method"] == "POST" and route != "other"

        identity = _request_id(scope)
        has_begun = False

        async def counting_send(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                self._metrics.count_request(route, message["status"])
                message = {**message, "headers": [*message.get("headers", ()), identity]}
            await send(message)

        self._metrics.num_in_flight += is_work
        try:
            await self._app(scope, receive, counting_send)
        except Exception:
            # Answered further out, where this middleware does not see it.
            if not has_begun:
                self._metrics.count_request(route, 500)
            raise
        finally:
            self._metrics.num_in_flight -= is_work


def _request_id(scope: Scope) -> tuple[bytes, bytes]:
    given = dict(scope["headers"]).get(b"x-request-id", b"")
    # What could break a log line or a header is not passed on.
    identity = given if _ID.fullmatch(given) else uuid4().hex.encode()
    return b"x-request-id", identity
