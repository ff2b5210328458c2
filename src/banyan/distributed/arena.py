"""Which part of a shared memory is taken. Pure.

Owns `Arena`, kept by the side that writes. Messages may be given back in any order, since a reader
may keep one and let later ones go; therefore no ring, but the lowest gap that is wide enough. The
lowest, because the same few megabytes are then used again and again and stay in the caches.
"""

from bisect import insort

from banyan.distributed.frames import ALIGNMENT


class Arena:
    """Places in a memory of `capacity` bytes, each under the number of a message."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # (start, end, number), by start.
        self._taken: list[tuple[int, int, int]] = []

    @property
    def is_empty(self) -> bool:
        """Nothing is taken."""
        return not self._taken

    def find(self, size: int) -> int | None:
        """Where a gap of `size` bytes starts, the lowest; None: there is none."""
        start = 0
        for begin, end, _ in self._taken:
            if begin - start >= size:
                return start
            start = end
        return start if self.capacity - start >= size else None

    def take(self, number: int, size: int) -> int | None:
        """Take `size` bytes for message `number`; where they start, or None: there is no room."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        start = self.find(size)
        if start is not None:
            insort(self._taken, (start, start + size, number))
        return start

    def give_back(self, number: int) -> bool:
        """The place of a message is free again; False: it had none."""
        for index, (_, _, taken_by) in enumerate(self._taken):
            if taken_by == number:
                del self._taken[index]
                return True
        return False
