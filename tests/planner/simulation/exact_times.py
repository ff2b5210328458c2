"""Times of steps that are straight lines, so that sums over many steps have no error."""

import math
from dataclasses import dataclass, replace

from banyan.planner.simulation.stage_costs import RoundTime
from banyan.planner.simulation.step_times import DecodeLine


@dataclass(frozen=True)
class StraightTimes:
    """seconds = step + token x tokens + row x rows + cached x cached + pair x pairs.

    `shares` are those of the parts of a replica; none says nothing of parts.
    Beside others a step takes `crowding` times as long.
    """

    step_seconds: float = 1.0
    token: float = 0.01
    row: float = 0.001
    cached: float = 0.0001
    pair: float = 0.00001
    shares: tuple[float, ...] = ()
    crowding: float = 1.0

    @property
    def together(self) -> "StraightTimes":
        """All of it `crowding` times as long."""
        names = ("step_seconds", "token", "row", "cached", "pair")
        longer = {name: self.crowding * getattr(self, name) for name in names}
        return replace(self, **longer)

    def decode(self, num_sequences: int, cached_tokens: int) -> DecodeLine:
        fixed = self.step_seconds + (self.token + self.row) * num_sequences
        return DecodeLine(fixed, self.cached + self.pair, math.inf, self.shares)

    def step(
        self, num_tokens: int, num_rows: int, cached_tokens: int, attended_pairs: int
    ) -> RoundTime:
        seconds = self.step_seconds + self.token * num_tokens + self.row * num_rows
        seconds += self.cached * cached_tokens + self.pair * attended_pairs
        return RoundTime(seconds, self.shares)
