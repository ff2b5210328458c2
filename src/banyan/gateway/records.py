"""What is noted of one prompt while its answers are written: times, tokens, ends.

Owns the record; who looks at it (metrics, traces) is a `RequestObserver`. Times are those of
`time.perf_counter()`, in seconds.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from banyan.engine.events import TokenEvent
from banyan.engine.sampling import SamplingOptions


@dataclass(slots=True)
class AnswerRecord:
    """What is known of one answer.

    Attributes:
        first: when its first token came; 0 before.
        newest: when its newest token came.
        gap: between the two newest events with tokens.
        num_events: events that brought tokens.
        num_generated: tokens so far.
        finish_reason: None until it ended.
    """

    first: float = 0.0
    newest: float = 0.0
    gap: float = 0.0
    num_events: int = 0
    num_generated: int = 0
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """Where the time of one prompt went, seconds.

    Attributes:
        end_to_end: from arrival to the last token.
        first_token: from arrival to the first token.
        queued: from the engine's hearing of it to its first step.
        prefill: from that step to the first token.
        decode: from the first token to the last.
    """

    end_to_end: float
    first_token: float
    queued: float
    prefill: float
    decode: float


@dataclass(slots=True)
class RequestRecord:
    """What is known of one prompt and its answers.

    Attributes:
        options: what was asked.
        arrived: when the request came.
        num_prompt_tokens: length of the prompt.
        num_cached_tokens: how much of it was cached.
        queued: seconds until its first step, once that is known.
    """

    options: SamplingOptions
    arrived: float
    num_prompt_tokens: int
    num_cached_tokens: int = 0
    queued: float = 0.0
    answers: list[AnswerRecord] = field(init=False)

    def __post_init__(self) -> None:
        self.answers = [AnswerRecord() for _ in range(self.options.n)]

    def take(self, event: TokenEvent, *, now: float) -> None:
        """Note one event."""
        answer = self.answers[event.index]
        if event.token_ids:
            answer.gap = now - answer.newest
            answer.first = answer.first or now
            answer.newest = now
            answer.num_events += 1
        answer.num_generated = event.num_generated_tokens
        answer.finish_reason = event.finish_reason
        self.num_cached_tokens = event.num_cached_tokens
        self.queued = max(self.queued, event.queued_seconds)

    def times(self) -> RequestTimes | None:
        """Say where the time went; None when there was no token."""
        begun = [answer for answer in self.answers if answer.num_events]
        if not begun:
            return None
        first = min(answer.first for answer in begun)
        last = max(answer.newest for answer in begun)
        waited = first - self.arrived
        return RequestTimes(
            end_to_end=last - self.arrived,
            first_token=waited,
            queued=self.queued,
            # The clocks of two processes: what is left may be a hair below nothing.
            prefill=max(0.0, waited - self.queued),
            decode=last - first,
        )


class RequestObserver(Protocol):
    """Somebody who looks at records as they grow."""

    def note_event(self, record: RequestRecord, event: TokenEvent) -> None:
        """Look at a record that has just taken in an event."""
        ...

    def note_end(self, record: RequestRecord) -> None:
        """Look at a record to which nothing more comes."""
        ...


async def observed(
    events: AsyncGenerator[TokenEvent, None],
    record: RequestRecord,
    observers: Sequence[RequestObserver],
) -> AsyncGenerator[TokenEvent, None]:
    """Pass events through and note them; the end is noted however it comes."""
    try:
        async with aclosing(events):
            async for event in events:
                record.take(event, now=time.perf_counter())
                for observer in observers:
                    observer.note_event(record, event)
                yield event
    finally:
        for observer in observers:
            observer.note_end(record)
