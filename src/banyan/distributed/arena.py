"""Which part of a shared memory is taken. Pure.

Owns `Arena`, kept by the side that writes. Messages may be given back in any order, since a reader
may keep one and let later ones go; therefore no ring, but the lowest gap that is wide enough. The
lowest, because the same few megabytes are then used again and again and stay in the caches.
"""

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

    def take(self, number: int, size: int) -> int | None:
        """Take `size` bytes for message `number`; where they start, or None: there is no room."""
        size = -(-size // ALIGNMENT) * ALIGNMENT
        start = 0
        for index, (begin, end, _) in enumerate(self._taken):
            if begin - start >= size:
                self._taken.insert(index, (start, start + size, number))
                return start
            start = end
        if self.capacity - start < size:
            return None
        self._taken.append((start, start + size, number))
        return start

    def give_back(self, number: int) -> bool:
        """The place of a message is free again; False: it had none."""
        for index, (_, _, taken_by) in enumerate(self._taken):
            if taken_by == number:
                del self._taken[index]
                return True
        return False
