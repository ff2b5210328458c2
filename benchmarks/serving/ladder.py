"""Which rate to try next, so that the highest one that keeps the goals is found. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rung:
    """One rate that was tried: requests in a second, and whether the goals were kept."""

    rate: float
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """How rates rise.

    Attributes:
        first: the rate to begin with, requests in a second.
        factor: from one rate to the next, over 1.
        most: rungs that may be tried.
    """

    first: float
    factor: float
    most: int

    def next_rate(self, tried: Sequence[Rung]) -> float | None:
        """The next rate; None when a kept rate stands beside one that was not, or time is up.

        Rates rise while goals are kept, and fall while they never were.
        """
        if not tried:
            return self.first
        kept = [rung.rate for rung in tried if rung.kept]
        failed = [rung.rate for rung in tried if not rung.kept]
        if len(tried) >= self.most or (kept and failed):
            return None
        return max(kept) * self.factor if kept else min(failed) / self.factor
