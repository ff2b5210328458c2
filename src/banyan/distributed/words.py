"""The words at the beginning of a shared memory: what its writer says without a message.

Owns `SpokenWords` and `HeardWords`. A word costs a store on one side and a load on the other, where
a frame costs two system calls. One says that the arrays are written of a message whose head went
ahead of them; the others give the places of read messages back.

Whoever reads a word must also see what was written before it. Processors that keep the order of
stores, and of loads before stores, do so by themselves; Python has no fence for others, so there
nothing is said in words: arrays are written before their head is sent, and credits go in frames.
"""

import mmap
import platform
from collections.abc import Iterable

from banyan.foundation.errors import DamagedMessage

WORD_BYTES = 4096
"""At the beginning of each memory, of words of 64 bits."""

_WRITTEN, _NUM_CREDITS, _FIRST_CREDIT = 0, 1, 8
MOST_CREDITS = WORD_BYTES // 8 - _FIRST_CREDIT
"""That are given and not taken; therefore no more places may be in use at a time."""


def can_speak(machine: str | None = None) -> bool:
    """Whether this processor (`platform.machine`) keeps the order that words need."""
    return (machine or platform.machine()).lower() in ("x86_64", "amd64")


class SpokenWords:
    """The side that writes; one thread at a time."""

    def __init__(self, memory: mmap.mmap) -> None:
        """Begin; `memory` is zero."""
        self._words = memoryview(memory)[:WORD_BYTES].cast("Q")
        self._num_credits = 0

    def say_written(self, number: int) -> None:
        """The arrays of the first `number` messages whose heads went ahead are written."""
        self._words[_WRITTEN] = number

    def give_credit(self, offsets: Iterable[int]) -> None:
        """Nobody here refers any more to what began there in the other side's memory."""
        words, number = self._words, self._num_credits
        for offset in offsets:
            words[_FIRST_CREDIT + number % MOST_CREDITS] = offset
            number += 1
        self._num_credits = words[_NUM_CREDITS] = number


class HeardWords:
    """The side that reads; what each method tells is read by one thread at a time."""

    def __init__(self, memory: mmap.mmap) -> None:
        """Listen to what the owner of `memory` says."""
        self._words = memoryview(memory)[:WORD_BYTES].cast("Q")
        self._num_credits = 0

    @property
    def written(self) -> int:
        """See `SpokenWords.say_written`."""
        return self._words[_WRITTEN]

    def take_credit(self) -> list[int]:
        """Where the places begin that were given back since the last call.

        Raises:
            DamagedMessage: more were than can be.
        """
        words, number = self._words, self._num_credits
        given = words[_NUM_CREDITS]
        if given == number:
            return []
        if not 0 < given - number <= MOST_CREDITS:
            raise DamagedMessage(
                f"The other worker gives {given - number} places back at once; at most"
                f" {MOST_CREDITS} are in use."
            )
        self._num_credits = given
        return [words[_FIRST_CREDIT + n % MOST_CREDITS] for n in range(number, given)]
