"""Requests that wait for an engine process: who gets which report.

Owns the routing of reports to their readers and nothing else. Called by `client`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from banyan.engine.events import TokenEvent
from banyan.engine.messages import Pooled, Published, Refused
from banyan.foundation.errors import BanyanError, EngineStopped, RequestError

Events: TypeAlias = "asyncio.Queue[TokenEvent | BanyanError]"
Rows: TypeAlias = "asyncio.Future[tuple[bytes, ...]]"


class PendingRequests:
    """The readers of all requests in flight, by request id."""

    def __init__(self) -> None:
        self._events: dict[str, Events] = {}
        self._rows: dict[str, Rows] = {}

    @contextmanager
    def events(self, request_id: str) -> Iterator[Events]:
        """Lend a queue that gets the request's events, or the error that ends it."""
        queue: Events = asyncio.Queue()
        self._events[request_id] = queue
        try:
            yield queue
        finally:
            del self._events[request_id]

    @contextmanager
    def rows(self, request_id: str) -> Iterator[Rows]:
        """Lend a future that gets the request's rows, or the error that ends it."""
        answer: Rows = asyncio.get_running_loop().create_future()
        self._rows[request_id] = answer
        try:
            yield answer
        finally:
            del self._rows[request_id]

    def deliver(self, report: Published | Pooled | Refused) -> None:
        """Hand a report to its readers; one whose reader has left is dropped."""
        match report:
            case Published(events):
                for event in events:
                    if event.request_id in self._events:
                        self._events[event.request_id].put_nowait(event)
            case Pooled(request_id, rows):
                answer = self._rows.get(request_id)
                if answer is not None and not answer.done():
                    answer.set_result(rows)
            case Refused(request_id, message, parameter, is_input):
                error: BanyanError = EngineStopped(message)
                if is_input:
                    error = RequestError(message, parameter=parameter)
                self._fail(request_id, error)

    def fail_all(self, error: BanyanError) -> None:
        """End every request in flight with `error`."""
        for request_id in [*self._events, *self._rows]:
            self._fail(request_id, error)

    def _fail(self, request_id: str, error: BanyanError) -> None:
        if request_id in self._events:
            self._events[request_id].put_nowait(error)
        answer = self._rows.get(request_id)
        if answer is not None and not answer.done():
            answer.set_exception(error)
