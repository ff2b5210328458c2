"""Where the steps of a replica go through, one after the other. Pure.

A place computes one step at a time, in the order in which they were begun. So a step waits at each
place until the one before it has left, and several steps under way keep several places busy.
"""

from collections.abc import Sequence

from banyan.planner.simulation.stage_costs import RoundTime


class Places:
    """When the places of a replica are free.

    Args:
        place_of_part: the place of each part of a replica; parts of one place follow each other.

    Attributes:
        place_of_part: as given.
        free: seconds from which on each place is free.
        last_end: of the step that was begun last.
    """

    __slots__ = ("free", "last_end", "place_of_part")

    def __init__(self, place_of_part: Sequence[int]) -> None:
        self.place_of_part = tuple(place_of_part)
        self.free = [0.0] * (1 + max(place_of_part, default=0))
        self.last_end = 0.0

    def copy(self) -> "Places":
        """The same, to try something."""
        other = Places(self.place_of_part)
        other.free, other.last_end = self.free[:], self.last_end
        return other

    def shift(self, seconds: float) -> None:
        """All of it happens later."""
        self.free = [time + seconds for time in self.free]
        self.last_end += seconds

    def spans(self, step: RoundTime) -> tuple[float, ...]:
        """Seconds of a step at each place, and behind each on the way."""
        spans = [0.0] * len(self.free)
        for place, share in zip(self.place_of_part, step.busy, strict=False):
            spans[place] += share * step.seconds
        if not step.busy:
            spans[0] = step.seconds
        return (*spans, max(0.0, step.seconds - sum(spans)) / len(spans))

    def take(self, now: float, spans: Sequence[float]) -> float:
        """Send a step through that begins now; returns when it ends, not before the last one."""
        free, way = self.free, spans[-1]
        for place, ready in enumerate(free):
            now = (now if now > ready else ready) + spans[place]
            free[place] = now
            now += way
        self.last_end = max(now, self.last_end)
        return self.last_end
