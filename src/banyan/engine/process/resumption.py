"""What the reader of a request has, so that another process can take the request up. Pure data."""

from dataclasses import dataclass, field

import msgspec

from banyan.engine.events import TokenEvent
from banyan.engine.process.messages import AddRequest


@dataclass(slots=True)
class Told:
    """One request and how much of it was told.

    Attributes:
        request: as it came.
        tokens: of each answer so far; None for an answer that is whole.
        may_resume: whether another process should go on with it. One that a process took up and
            ended with before it told another token may be what ended both.
    """

    request: AddRequest
    tokens: list[list[int] | None] = field(init=False)
    may_resume: bool = True

    def __post_init__(self) -> None:
        self.tokens = [[] for _ in range(self.request.options.n)]

    def note(self, event: TokenEvent) -> None:
        """Remember what the reader gets."""
        self.may_resume = True
        tokens = self.tokens[event.index]
        if tokens is None:
            return
        tokens.extend(event.token_ids)
        if event.finish_reason is not None:
            self.tokens[event.index] = None

    @property
    def num_unfinished(self) -> int:
        """Answers that still grow."""
        return sum(tokens is not None for tokens in self.tokens)

    def resumed(self) -> AddRequest:
        """The request for another process: as it came, and what was told of it."""
        self.may_resume = False
        told = tuple(None if tokens is None else tuple(tokens) for tokens in self.tokens)
        return msgspec.structs.replace(self.request, told=told)
