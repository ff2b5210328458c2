"""Requests that wait for an engine process: who gets which report.

Owns the routing of reports to their readers and nothing else. Called by `client`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from banyan.engine.events import TokenEvent
from banyan.engine.process.messages import Done, Pooled, Published, Refused, Transcribed, error_of
from banyan.engine.process.status import AdapterFacts
from banyan.engine.speech.transcript import Transcript
from banyan.foundation.errors import BanyanError, RequestError

Events: TypeAlias = "asyncio.Queue[TokenEvent | BanyanError]"
Rows: TypeAlias = "asyncio.Future[tuple[bytes, ...]]"
Changes: TypeAlias = "asyncio.Future[tuple[AdapterFacts, ...]]"
Heard: TypeAlias = "asyncio.Future[Transcript]"


MOST_UNREAD = 4096
"""Events that wait for a reader; one who is further behind loses the answer."""


class PendingRequests:
    """The readers of all requests in flight, by request id."""

    def __init__(self, *, most_unread: int = MOST_UNREAD) -> None:
        self._most_unread = most_unread
        self._events: dict[str, Events] = {}
        self._answers: dict[str, asyncio.Future[Any]] = {}

    @contextmanager
    def events(self, request_id: str) -> Iterator[Events]:
        """Lend a queue that gets the request's events, or the error that ends it."""
        queue: Events = asyncio.Queue()
        self._events[request_id] = queue
        try:
            yield queue
        finally:
            self._events.pop(request_id, None)

    @contextmanager
    def rows(self, request_id: str) -> Iterator[Rows]:
        """Lend a future that gets the request's rows, or the error that ends it."""
        with self._answer(request_id) as answer:
            yield answer

    @contextmanager
    def transcript(self, request_id: str) -> Iterator[Heard]:
        """Lend a future that gets what was heard, or the error that ends the request."""
        with self._answer(request_id) as answer:
            yield answer

    @contextmanager
    def _answer(self, request_id: str) -> Iterator["asyncio.Future[Any]"]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            yield answer
        finally:
            del self._answers[request_id]

    @contextmanager
    def change(self, request_id: str) -> Iterator[Changes]:
        """Lend a future that gets the adapters after a change, or the error that ends it."""
        with self._answer(request_id) as answer:
            yield answer

    def __len__(self) -> int:
        return len(self._events) + len(self._answers)

    def deliver(self, report: Published | Pooled | Transcribed | Done | Refused) -> list[str]:
        """Hand a report to its readers; one whose reader has left is dropped.

        Returns the requests that end because their readers are too far behind.
        """
        too_slow = []
        match report:
            case Published(events):
                for event in events:
                    if event.request_id not in self._events:
                        continue
                    queue = self._events[event.request_id]
                    queue.put_nowait(event)
                    if queue.qsize() > self._most_unread:
                        queue.put_nowait(_too_slow(self._most_unread))
                        del self._events[event.request_id]
                        too_slow.append(event.request_id)
            case (
                Pooled(request_id, result)
                | Transcribed(request_id, result)
                | Done(request_id, result)
            ):
                answer = self._answers.get(request_id)
                if answer is not None and not answer.done():
                    answer.set_result(result)
            case Refused():
                self._fail(report.request_id, error_of(report))
        return too_slow

    def fail_all(self, error: BanyanError) -> None:
        """End every request in flight with `error`."""
        for request_id in [*self._events, *self._answers]:
            self._fail(request_id, error)

    def _fail(self, request_id: str, error: BanyanError) -> None:
        if request_id in self._events:
            self._events[request_id].put_nowait(error)
        answer = self._answers.get(request_id)
        if answer is not None and not answer.done():
            answer.set_exception(error)


def _too_slow(most_unread: int) -> BanyanError:
    return RequestError(
        f"the answer was cancelled because its reader is more than {most_unread} pieces behind; "
        "read faster, or ask for fewer tokens"
    )
