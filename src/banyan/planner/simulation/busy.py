"""How long an engine and its parts were busy, span by span."""

from array import array
from collections.abc import Sequence

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
        if len(shares) > 1:
            self.note_parts(start, end, [share * (end - start) for share in shares])
        else:
            self._note_span(start, end)

    def note_parts(self, start: float, end: float, part_seconds: Sequence[float]) -> None:
        """Work from `start` to `end`, with what each part has done; nothing for a lonely one."""
        self._note_span(start, end)
        if len(part_seconds) > 1:
            if not self.part_busy:
                self.part_busy = [0.0] * len(part_seconds)
            for place, seconds in enumerate(part_seconds):
                self.part_busy[place] += seconds

    def _note_span(self, start: float, end: float) -> None:
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
