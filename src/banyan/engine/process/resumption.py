"""What the reader of a request has, so that another process can take the request up. Pure data."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from banyan.engine.events import TokenEvent
from banyan.engine.process.messages import AddRequest

_MOST_DEATHS = 2
_MOST_DEATHS_AT_ONE_PLACE = 3
"""More than of an engine that nobody knows the reason of, since a device may be at fault; fewer
than make it count as lost, since the request may be."""


@dataclass(slots=True)
class Told:
    """One request and how much of it was told.

    Attributes:
        request: as it came.
        tokens: of each answer so far; None for an answer that is whole.
        deaths: device at fault, empty where none is known -> processes that ended of it with this
            request since the last token.
    """

    request: AddRequest
    tokens: list[list[int] | None] = field(init=False)
    deaths: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.tokens = [[] for _ in range(self.request.options.n)]

    def note(self, event: TokenEvent) -> None:
        """Remember what the reader gets."""
        self.deaths.clear()
        tokens = self.tokens[event.index]
        if tokens is None:
            return
        tokens.extend(event.token_ids)
        if event.finish_reason is not None:
            self.tokens[event.index] = None

    def note_death(self, place: str) -> bool:
        """Remember that a process ended; whether another should go on with the request.

        One that process after process ended with before it told another token may be what ended
        them.

        Args:
            place: the device at fault; empty where none is known.
        """
        self.deaths[place] += 1
        return self.deaths[place] < (_MOST_DEATHS_AT_ONE_PLACE if place else _MOST_DEATHS)

    @property
    def num_unfinished(self) -> int:
        """Answers that still grow."""
        return sum(tokens is not None for tokens in self.tokens)

    def resumed(self) -> AddRequest:
        """The request for another process: as it came, and what was told of it."""
        told = tuple(None if tokens is None else tuple(tokens) for tokens in self.tokens)
        return msgspec.structs.replace(self.request, told=told)
