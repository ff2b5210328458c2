"""Which part of a shared memory is taken. Pure.

Owns `Arena`, kept by the side that writes. Messages may be given back in any order, since a reader
may keep one and let later ones go; therefore no ring, but the lowest gap that is wide enough. The
lowest, because the same few megabytes are then used again and again and stay in the caches.
"""

from bisect import bisect_left, insort

from banyan.distributed.frames import ALIGNMENT


class Arena:
    """Places in a memory of `capacity` bytes, each known by where it starts."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # (start, end), by start.
        self._taken: list[tuple[int, int]] = []

    @property
    def num_taken(self) -> int:
        """How many places are in use."""
        return len(self._taken)

    def find(self, size: int) -> int | None:
        """Where a gap of `size` bytes starts, the lowest; None: there is none."""
        start = 0
        for begin, end in self._taken:
            if begin - start >= size:
                return start
            start = end
        return start if self.capacity - start >= size else None

    def take(self, size: int) -> int | None:
        """Take `size` bytes, at least one; where they start, or None: there is no room."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        start = self.find(size)
        if start is not None:
            insort(self._taken, (start, start + size))
        return start

    def give_back(self, start: int) -> bool:
        """The place that starts there is free again; False: none does."""
        index = bisect_left(self._taken, (start,))
        if index == len(self._taken) or self._taken[index][0] != start:
            return False
        del self._taken[index]
        return True
