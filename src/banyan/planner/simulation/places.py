"""Where the steps of a replica go through, one after the other. Pure.

A place computes one step at a time, in the order in which they were begun. So a step waits at each
place until the one before it has left, and several steps under way keep several places busy.
Places that are busy at the same time may slow each other down: devices of one host share its
memory, or its cores.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from banyan.planner.simulation.stage_costs import RoundTime


@dataclass(frozen=True, slots=True)
class Journey:
    """What a step needs at each place.

    Attributes:
        alone: seconds at each place while all others are idle.
        together: seconds at each place while another is busy.
        way: seconds behind each place, which keep none of them busy.
    """

    alone: tuple[float, ...]
    together: tuple[float, ...]
    way: float


@dataclass(slots=True)
class _Step:
    """A step on its way.

    Attributes:
        journey: what it needs.
        leg: twice the number of the place where it is or for which it waits; one more behind it.
        left: share of this leg that is left.
        served: seconds it has been computed at each place.
    """

    journey: Journey
    leg: int
    left: float
    served: list[float]


class Places:
    """The places of a replica, and the steps under way.

    Args:
        place_of_part: the place of each part of a replica; parts of one place follow each other.

    Attributes:
        place_of_part: as given.
        now: the time.
    """

    __slots__ = ("_steps", "now", "num_places", "place_of_part")

    def __init__(self, place_of_part: Sequence[int]) -> None:
        self.place_of_part = tuple(place_of_part)
        self.num_places = 1 + max(place_of_part, default=0)
        self.now = 0.0
        self._steps: deque[_Step] = deque()

    def copy(self) -> "Places":
        """The same, to try something."""
        other = Places(self.place_of_part)
        other.now = self.now
        other._steps = deque(replace(step, served=step.served[:]) for step in self._steps)
        return other

    def journey(self, alone: RoundTime, together: RoundTime) -> Journey:
        """What a step needs at each place."""
        at_places = self._at_places(alone)
        way = max(0.0, alone.seconds - sum(at_places)) / self.num_places
        return Journey(at_places, self._at_places(together), way)

    def begin(self, journey: Journey) -> None:
        """Send a step on its way, now."""
        self._steps.append(_Step(journey, 0, 1.0, [0.0] * self.num_places))

    def finish(self) -> list[float]:
        """Let the time go on until the oldest step is through.

        Returns:
            Seconds that it was computed at each place.
        """
        last = 2 * self.num_places
        while self._steps[0].leg < last:
            self._go_on()
        return self._steps.popleft().served

    def _at_places(self, step: RoundTime) -> tuple[float, ...]:
        if not step.busy:
            return (step.seconds,) + (0.0,) * (self.num_places - 1)
        seconds = [0.0] * self.num_places
        for place, share in zip(self.place_of_part, step.busy, strict=True):
            seconds[place] += share * step.seconds
        return tuple(seconds)

    def _go_on(self) -> None:
        """Until the next step has left a place, or what is behind it."""
        last, ahead = 2 * self.num_places, 2 * self.num_places + 1
        moving: list[_Step] = []
        num_busy = 0
        for step in self._steps:
            leg = step.leg
            if leg & 1:
                moving.append(step)
            elif leg < ahead and leg < last:
                moving.append(step)
                num_busy += 1
            ahead = leg
        until = min(self._seconds(step, num_busy) * step.left for step in moving)
        for step in moving:
            if step.leg & 1 == 0:
                step.served[step.leg >> 1] += until
            seconds = self._seconds(step, num_busy)
            if seconds * step.left <= until:
                step.leg, step.left = step.leg + 1, 1.0
            else:
                step.left -= until / seconds
        self.now += until

    def _seconds(self, step: _Step, num_busy: int) -> float:
        """Of the whole leg, as long as so many places are busy."""
        if step.leg & 1:
            return step.journey.way
        journey = step.journey
        return (journey.together if num_busy > 1 else journey.alone)[step.leg >> 1]
