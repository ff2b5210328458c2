"""The masks of one step: filled in a thread beside the model, read row by row by the sampler.

Dims: M rows that are constrained, V words of the vocabulary, W 32-bit words of a mask.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from banyan.engine.structure.constraint import MaskArray, TokenConstraint, mask_words

BoolArray = NDArray[np.bool_]
IdArray = NDArray[np.int64]

# Allowed tokens are listed when they lie in no more than this part of the words of a mask.
_FEW = 8


@dataclass(frozen=True, slots=True)
class TokenMask:
    """Which tokens may be chosen from one row.

    Attributes:
        words: one bit for each token, [W].
        vocab_size: tokens of the vocabulary.
    """

    words: MaskArray
    vocab_size: int

    def allows(self, token_id: int) -> bool:
        """True when a token may be chosen."""
        return bool(self.words[token_id // 32] >> (token_id % 32) & 1)

    def few_allowed(self) -> IdArray | None:
        """The tokens that may be chosen, in order, or None when it is quicker not to list them."""
        places = np.flatnonzero(self.words)
        if len(places) > len(self.words) // _FEW:
            return None
        bits = np.unpackbits(self.words[places].view(np.uint8), bitorder="little")
        allowed = np.flatnonzero(bits)
        return places[allowed // 32] * 32 + allowed % 32

    def forbidden(self) -> BoolArray:
        """Which tokens may not be chosen, [V]."""
        bits_V = np.unpackbits(
            (~self.words).view(np.uint8), count=self.vocab_size, bitorder="little"
        )
        return bits_V.view(np.bool_)


@dataclass(frozen=True, slots=True)
class RowMasks:
    """Which rows of a step are constrained; their masks may still be in the making.

    Attributes:
        places: place in `masks` by row of logits; a row that is free is missing.
        masks: one for each constrained row, [M, W].
        filling: ends when all masks are there; the constraints must not change before.
        vocab_size: words of the vocabulary.
    """

    places: dict[int, int]
    masks: MaskArray
    filling: "Future[None] | None"
    vocab_size: int

    def wait(self) -> None:
        """Wait until all masks are there; raises what filling them raised."""
        if self.filling is not None:
            self.filling.result()

    def of(self, row: int) -> TokenMask | None:
        """Which tokens may be chosen from a row; None when all may."""
        place = self.places.get(row)
        return None if place is None else TokenMask(self.masks[place], self.vocab_size)


NO_MASKS = RowMasks({}, np.zeros((0, 0), dtype=np.int32), None, 0)
"""Every row is free."""


class MaskMaker:
    """Fills the masks of each step; their memory is used again by later steps.

    Args:
        vocab_size: bits of a mask.
        num_in_flight: steps that can be under way at once; so many masks are kept apart.
    """

    def __init__(self, vocab_size: int, *, num_in_flight: int = 1) -> None:
        self._vocab_size = vocab_size
        self._pool: ThreadPoolExecutor | None = None
        none_MW: MaskArray = np.zeros((0, mask_words(vocab_size)), dtype=np.int32)
        # The next step's memory stands first.
        self._memory = deque([none_MW] * num_in_flight)

    def begin(
        self, constraints: Sequence[TokenConstraint | None], drafts: Sequence[Sequence[int]]
    ) -> RowMasks:
        """Start to fill the masks of a step.

        Args:
            constraints: one for each sequence, None for one that is free.
            drafts: the guesses of each sequence; it has one row of logits more than guesses.
        """
        places: dict[int, int] = {}
        work: list[tuple[TokenConstraint, Sequence[int], int]] = []
        row = 0
        for constraint, guesses in zip(constraints, drafts, strict=True):
            num_rows = len(guesses) + 1
            if constraint is not None:
                work.append((constraint, guesses, len(places)))
                first = len(places)
                places.update((row + index, first + index) for index in range(num_rows))
            row += num_rows
        if not work:
            return NO_MASKS
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="banyan-masks")
        memory_MW = self._memory.popleft()
        if len(memory_MW) < len(places):
            memory_MW = np.zeros((2 * len(places), memory_MW.shape[1]), dtype=np.int32)
        self._memory.append(memory_MW)
        masks_MW = memory_MW[: len(places)]
        filling = self._pool.submit(_fill_all, work, masks_MW)
        return RowMasks(places, masks_MW, filling, self._vocab_size)

    def close(self) -> None:
        """End the thread."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _fill_all(
    work: Sequence[tuple[TokenConstraint, Sequence[int], int]], masks_MW: MaskArray
) -> None:
    for constraint, guesses, place in work:
        constraint.fill(masks_MW[place])
        if guesses:
            _fill_behind(constraint, guesses, masks_MW[place + 1 :])


def _fill_behind(constraint: TokenConstraint, guesses: Sequence[int], masks_MW: MaskArray) -> None:
    """Masks behind each guess; those behind a forbidden one are never read."""
    num_valid = constraint.count_valid(guesses)
    num_taken = 0
    for guess, mask_W in zip(guesses[:num_valid], masks_MW, strict=False):
        constraint.accept(guess)
        num_taken += 1
        if constraint.is_finished:
            break
        constraint.fill(mask_W)
    constraint.rollback(num_taken)
