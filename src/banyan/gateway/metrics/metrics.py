"""The server's metrics: those of the engine are read when asked, the others are noted here.

Keeps its own registry, so that two servers can live in one process.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, generate_latest
from starlette.requests import ClientDisconnect

from banyan.engine.events import TokenEvent
from banyan.gateway.backend import Backend
from banyan.gateway.metrics import families
from banyan.gateway.metrics.engine_collector import EngineCollector
from banyan.gateway.metrics.families import Family
from banyan.gateway.metrics.instruments import Counted, Shown, Timed
from banyan.gateway.metrics.naming import Naming
from banyan.gateway.records import RequestRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts requests; a `RequestObserver`."""

    def __init__(self, backend: Backend, naming: Naming) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(EngineCollector(backend, naming))
        self.num_in_flight = 0

        def timed(family: Family) -> Timed:
            return Timed(family, naming, self._registry)

        Shown(families.IN_FLIGHT, naming, self._registry, read=lambda: self.num_in_flight)
        self._requests = Counted(families.REQUESTS, naming, self._registry)
        self._read_tokens = Counted(families.READ_TOKENS, naming, self._registry)
        self._ended = Counted(families.ENDED, naming, self._registry)
        self._first_token = timed(families.FIRST_TOKEN)
        self._next_token = timed(families.NEXT_TOKEN)
        self._mean_next_token = timed(families.MEAN_NEXT_TOKEN)
        self._end_to_end = timed(families.END_TO_END)
        self._queued = timed(families.QUEUED)
        self._prefill = timed(families.PREFILL)
        self._decode = timed(families.DECODE)
        self._inference = timed(families.INFERENCE)
        self._prompt_length = timed(families.PROMPT_LENGTH)
        self._answer_length = timed(families.ANSWER_LENGTH)
        self._asked_answers = timed(families.ASKED_ANSWERS)
        self._asked_tokens = timed(families.ASKED_TOKENS)
        self._pooled = Counted(families.POOLED, naming, self._registry)
        self._heard = Counted(families.HEARD, naming, self._registry)

    def count_request(self, route: str, status: int) -> None:
        """Count one answered request."""
        self._requests.add(1, route, str(status))

    def note_event(self, record: RequestRecord, event: TokenEvent) -> None:
        """Note the times of new tokens; the record has taken the event in already."""
        answer = record.answers[event.index]
        if not event.token_ids:
            return
        if answer.num_events == 1:
            self._first_token.observe(answer.newest - record.arrived)
        else:
            self._next_token.observe(answer.gap / len(event.token_ids))

    def note_end(self, record: RequestRecord) -> None:
        """Note what is known of a prompt only when its answers ended or its reader left."""
        for answer in record.answers:
            self._ended.add(1, answer.finish_reason or "abort")
            self._answer_length.observe(answer.num_generated)
            if answer.num_generated > 1:
                mean = (answer.newest - answer.first) / (answer.num_generated - 1)
                self._mean_next_token.observe(mean)
        self._read_tokens.add(record.num_prompt_tokens)
        self._prompt_length.observe(record.num_prompt_tokens)
        self._asked_answers.observe(record.options.n)
        if record.options.max_tokens is not None:
            self._asked_tokens.observe(record.options.max_tokens)
        times = record.times()
        if times is not None:
            self._end_to_end.observe(times.end_to_end)
            self._queued.observe(times.queued)
            self._prefill.observe(times.prefill)
            self._decode.observe(times.decode)
            self._inference.observe(times.prefill + times.decode)

    @contextmanager
    def whole(self, *, arrived: float, num_answers: int = 1) -> Iterator[None]:
        """Note the end of a request without tokens to stream, however it comes.

        `arrived` is a time of `time.perf_counter()`.
        """
        reason = "error"
        try:
            yield
            reason = "stop"
            self._end_to_end.observe(time.perf_counter() - arrived)
        except (asyncio.CancelledError, ClientDisconnect):
            reason = "abort"
            raise
        finally:
            self._ended.add(num_answers, reason)

    def note_pooled(self, lengths: Sequence[int]) -> None:
        """Note prompts of so many tokens that became vectors or scores."""
        self._pooled.add(len(lengths))
        self._read_tokens.add(sum(lengths))
        for length in lengths:
            self._prompt_length.observe(length)

    def note_heard(self, seconds: float) -> None:
        """Note sound that was written down."""
        self._heard.add(seconds)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
