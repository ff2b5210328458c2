"""ASGI middleware that counts each answer."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from banyan.gateway.endpoints import route_of
from banyan.gateway.metrics.metrics import Metrics


class CountRequests:
    """Counts answers by path and status; unknown paths share one label."""

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

        has_begun = False

        async def counting_send(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                self._metrics.count_request(route, message["status"])
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
