"""How long an engine and its parts were busy, span by span."""

from array import array

_MOST_SPANS = 10_000


class BusyMeter:
    """Adds up spans of work.

    Args:
        bin_seconds: length of the spans; all behind the ten thousandth count as one.

    Attributes:
        busy: float64 [spans] seconds with a step under way.
        part_busy: seconds for each part of a replica; empty where it has only one.
    """

    __slots__ = ("_inverse", "busy", "part_busy")

    def __init__(self, bin_seconds: float) -> None:
        self.busy = array("d")
        self.part_busy: list[float] = []
        self._inverse = 1.0 / bin_seconds

    def note(self, start: float, end: float, shares: tuple[float, ...]) -> None:
        """Work from `start` to `end`; each part was busy for its share of it."""
        busy, inverse = self.busy, self._inverse
        first = min(int(start * inverse), _MOST_SPANS)
        last = min(int(end * inverse), _MOST_SPANS)
        while len(busy) <= last:
            busy.append(0.0)
        if first == last:
            busy[first] += end - start
        else:
            busy[first] += (first + 1) / inverse - start
            for between in range(first + 1, last):
                busy[between] += 1.0 / inverse
            busy[last] += end - last / inverse
        if len(shares) > 1:
            if not self.part_busy:
                self.part_busy = [0.0] * len(shares)
            for place, share in enumerate(shares):
                self.part_busy[place] += share * (end - start)
