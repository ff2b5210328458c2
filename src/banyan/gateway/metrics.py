"""Counters and times for Prometheus.

Owns the names of all metrics. Keeps its own registry, so that two servers can live in one
process. Filled by the routes; read by `GET /metrics`.
"""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from banyan.engine.events import TokenEvent
from banyan.gateway.backend import Backend
from banyan.gateway.endpoints import route_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_NEXT_TOKEN_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)


class Metrics:
    """The server's metrics: those of the engine are read when asked, the others are observed."""

    def __init__(self, backend: Backend) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(backend))
        self._first_token = Histogram(
            "banyan_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            buckets=_FIRST_TOKEN_BUCKETS,
            registry=self._registry,
        )
        self._next_token = Histogram(
            "banyan_time_per_output_token_seconds",
            "Mean time between the tokens of one answer after its first.",
            buckets=_NEXT_TOKEN_BUCKETS,
            registry=self._registry,
        )
        self._requests = Counter(
            "banyan_requests",
            "Requests answered, by route and status.",
            labelnames=("route", "status"),
            registry=self._registry,
        )

    def count_request(self, route: str, status: int) -> None:
        """Count one answered request."""
        self._requests.labels(route, str(status)).inc()

    async def observe(
        self, events: AsyncGenerator[TokenEvent, None], *, arrived: float
    ) -> AsyncGenerator[TokenEvent, None]:
        """Pass events through and note their times; `arrived` is a `time.perf_counter()`."""
        first: dict[int, float] = {}
        async with aclosing(events):
            async for event in events:
                now = time.perf_counter()
                if event.token_ids and event.index not in first:
                    first[event.index] = now
                    self._first_token.observe(now - arrived)
                if event.finish_reason is not None and event.num_generated_tokens > 1:
                    seconds = now - first.get(event.index, now)
                    self._next_token.observe(seconds / (event.num_generated_tokens - 1))
                yield event

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Reads the backend's counters at the moment of a scrape."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        status = self._backend.status()
        yield GaugeMetricFamily(
            "banyan_engine_ready", "1 when the engine answers.", value=status.state == "ready"
        )
        yield CounterMetricFamily(
            "banyan_engine_restarts", "Times the engine was started again.", status.num_restarts
        )
        counted = self._backend.statistics()
        if counted is None:
            return
        gauges = (
            ("requests_waiting", "Requests in the queue.", counted.num_waiting),
            ("requests_running", "Requests being computed.", counted.num_running),
            ("blocks_free", "Key-value blocks nobody holds.", counted.num_free_blocks),
            ("blocks", "Key-value blocks in all.", counted.num_blocks),
        )
        for name, meaning, value in gauges:
            yield GaugeMetricFamily(f"banyan_{name}", meaning, value=value)
        counters = (
            ("prompt_tokens", "Prompt tokens computed.", counted.tokens_prefilled),
            ("generated_tokens", "Tokens written.", counted.tokens_generated),
            ("preemptions", "Requests set back for want of blocks.", counted.preemptions),
        )
        for name, meaning, value in counters:
            yield CounterMetricFamily(f"banyan_{name}", meaning, value=value)


class CountRequests:
    """ASGI middleware that counts each answer; unknown paths share one label."""

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

        has_begun = False

        async def counting_send(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                self._metrics.count_request(route, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        except Exception:
            # Answered further out, where this middleware does not see it.
            if not has_begun:
                self._metrics.count_request(route, 500)
            raise
