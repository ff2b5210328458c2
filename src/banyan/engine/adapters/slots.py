"""Which adapter sits in which slot of the model. Pure bookkeeping: nothing is loaded here.

Adapters are known by numbers that are never used twice, so that one loaded anew under an old name
is another. A slot is held while sequences run with its adapter; of the others, the one that was
used the longest ago gives way.
"""

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Seat:
    """Where an adapter sits.

    Attributes:
        slot: its number in the model.
        is_new: its weights must be written there first.
    """

    slot: int
    is_new: bool


class AdapterSlots:
    """The slots of one model, `num_slots` of them, all empty at first."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        # In order of last use, oldest first.
        self._slot_of: dict[int, int] = {}
        self._empty = list(range(num_slots - 1, -1, -1))
        self._holders: Counter[int] = Counter()
        self._dropped: set[int] = set()

    @property
    def held(self) -> frozenset[int]:
        """The adapters that sequences run with."""
        return frozenset(self._holders)

    def hold(self, number: int) -> Seat:
        """Seat an adapter for one more sequence; there must be a slot that nobody holds."""
        slot = self._slot_of.pop(number, None)
        is_new = slot is None
        if slot is None:
            slot = self._empty.pop() if self._empty else self._clear_oldest()
        self._slot_of[number] = slot
        self._holders[number] += 1
        return Seat(slot, is_new)

    def release(self, number: int) -> None:
        """End one hold; the adapter keeps its slot until another one needs it."""
        self._holders[number] -= 1
        if self._holders[number] == 0:
            del self._holders[number]
            if number in self._dropped:
                self._clear(number)

    def drop(self, number: int) -> None:
        """Nobody will hold this adapter again: empty its slot, or do so when the last one ends."""
        if number in self._holders:
            self._dropped.add(number)
        elif number in self._slot_of:
            self._clear(number)

    def _clear(self, number: int) -> None:
        self._dropped.discard(number)
        self._empty.append(self._slot_of.pop(number))

    def _clear_oldest(self) -> int:
        free = [number for number in self._slot_of if number not in self._holders]
        assert free, "an adapter was seated while all slots are held"
        return self._slot_of.pop(free[0])
