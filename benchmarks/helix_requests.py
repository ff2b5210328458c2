"""What goes through nodes in a replay of Helix, and what waits there."""

from collections import deque
from dataclasses import dataclass, field

from benchmarks.helix_cards import Card


@dataclass(frozen=True, slots=True)
class Piece:
    """What goes through the nodes at once: a token of an answer, or some of a prompt.

    Attributes:
        request: whose.
        tokens: of a prompt; 0 for an answer.
        is_last: whether a token is written when it comes out.
        place: on the request's path.
    """

    request: int
    tokens: int = 0
    is_last: bool = True
    place: int = 0

    @property
    def sent(self) -> int:
        """Rows that go over a link."""
        return max(1, self.tokens)


@dataclass(slots=True)
class Node:
    """A node at work: answers and pieces of prompts wait for it."""

    card: Card
    layers: int
    rate: float
    room: float
    answers: deque[Piece] = field(default_factory=deque)
    prompts: deque[Piece] = field(default_factory=deque)
    is_busy: bool = False
    busy_seconds: float = 0.0


@dataclass(slots=True)
class Request:
    """A request under way: (node, layers it computes there) in order."""

    prompt: int
    answer: int
    path: tuple[tuple[int, int], ...] = ()
    written: int = 0
    first: float = 0.0
