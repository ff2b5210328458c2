"""Which replica gets the next request. Pure."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Literal

Routing = Literal["least_loaded", "round_robin"]
ROUTINGS: tuple[Routing, ...] = ("least_loaded", "round_robin")


class Router:
    """Chooses replicas by their speed.

    "least_loaded" takes the one with the fewest unfinished requests for its speed; "round_robin"
    the one that was given the fewest so far for its speed. Of equals, who waited longest.

    Args:
        speeds: of the replicas, above 0, in any unit.
        routing: the rule.
    """

    def __init__(self, speeds: Sequence[float], routing: Routing) -> None:
        self._weights = [1.0 / speed for speed in speeds]
        self._forgets = routing == "least_loaded"
        self._counts = [0] * len(speeds)
        self._is_open = [True] * len(speeds)
        # Which of the entries of a replica is the true one; its older ones are passed over.
        self._newest = list(range(len(speeds)))
        self._tick = len(speeds)
        self._line = [(weight, tick, tick) for tick, weight in enumerate(self._weights)]
        self._line.sort()

    def choose(self) -> int | None:
        """The next replica, which counts one more from now on; None while none is open."""
        line, newest = self._line, self._newest
        while line:
            _, tick, index = heappop(line)
            if newest[index] == tick and self._is_open[index]:
                self._counts[index] += 1
                self._enter(index)
                return index
        return None

    def finish(self, index: int, num_requests: int = 1) -> None:
        """Requests that a replica was given are done, or are taken from it."""
        if self._forgets:
            self._counts[index] -= num_requests
            self._enter(index)

    def assign(self, index: int) -> None:
        """A replica gets one that was not chosen here."""
        self._counts[index] += 1
        self._enter(index)

    def close(self, index: int) -> None:
        """Choose a replica no more."""
        self._is_open[index] = False

    def open(self, index: int) -> None:
        """Choose it again; it starts level with the others."""
        self._is_open[index] = True
        if not self._forgets:
            loads = [
                self._counts[other] * self._weights[other]
                for other, is_open in enumerate(self._is_open)
                if is_open and other != index
            ]
            level = min(loads, default=0.0) / self._weights[index]
            self._counts[index] = max(self._counts[index], int(level))
        self._enter(index)

    def is_open(self, index: int) -> bool:
        """Whether a replica can be chosen."""
        return self._is_open[index]

    def _enter(self, index: int) -> None:
        self._tick += 1
        self._newest[index] = self._tick
        if self._is_open[index]:
            load = (self._counts[index] + 1) * self._weights[index]
            heappush(self._line, (load, self._tick, index))
