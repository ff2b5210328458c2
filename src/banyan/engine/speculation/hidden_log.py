"""What a decoder's steps said of their tokens, kept until heads that guess have read it.

The engine notes the hidden states of every step; a head takes those of a sequence when it is asked
for guesses. Legend: N rows, H hidden size.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from banyan.engine.scheduling.scheduler import SequenceId

FloatArray = NDArray[np.float32]


class HiddenLog:
    """The newest states of each sequence.

    Args:
        most_rows: about how many are kept of a sequence; the older ones are dropped, and a head
            that wanted them knows less of what came before.
    """

    def __init__(self, *, most_rows: int) -> None:
        self._most_rows = most_rows
        self._kept: dict[SequenceId, _Rows] = {}

    def note(self, sequence_id: SequenceId, start: int, rows_NH: FloatArray) -> None:
        """Keep a copy of the states of the tokens from position `start` on.

        They replace what was noted of the same places, which were guesses that were wrong. What
        does not join them is dropped: its tokens were computed by another step of another life.
        """
        kept = self._kept.get(sequence_id)
        if kept is None or not kept.cut(start):
            kept = self._kept[sequence_id] = _Rows(start)
        skipped = max(len(rows_NH) - self._most_rows, 0)
        kept.append(rows_NH[skipped:].copy(), skipped=skipped)
        kept.shorten(self._most_rows)

    def take(self, sequence_id: SequenceId, end: int) -> tuple[int, FloatArray] | None:
        """Give what is known of the tokens in front of position `end`, once.

        Returns:
            The position of the first and the rows [N, H], up to the one in front of `end`; None
            when that one is not known.
        """
        kept = self._kept.get(sequence_id)
        if kept is None or not kept.first < end <= kept.end:
            return None
        kept.cut(end)
        del self._kept[sequence_id]
        return kept.first, kept.joined()

    def last(self, sequence_id: SequenceId, end: int) -> FloatArray | None:
        """Give the state [H] of the token in front of `end`, which stays; None if unknown."""
        kept = self._kept.get(sequence_id)
        if kept is None or not kept.first < end <= kept.end:
            return None
        return kept.row(end - 1)

    def forget(self, sequence_id: SequenceId) -> None:
        """Drop what is kept of a sequence."""
        self._kept.pop(sequence_id, None)


class _Rows:
    """Rows of the positions `first` to `end`, in the pieces they came in."""

    __slots__ = ("end", "first", "pieces")

    def __init__(self, first: int) -> None:
        self.first = self.end = first
        self.pieces: list[FloatArray] = []

    def append(self, rows_NH: FloatArray, *, skipped: int) -> None:
        """Add rows behind the last; with some skipped in between, they are all there is."""
        if skipped:
            self.first, self.pieces = self.end + skipped, []
        self.end += skipped + len(rows_NH)
        self.pieces.append(rows_NH)

    def cut(self, end: int) -> bool:
        """Drop what is at `end` and behind it; false when rows in front of it are missing."""
        if not self.first <= end <= self.end:
            return False
        while end < self.end:
            excess = self.end - end
            piece = self.pieces.pop()
            self.end -= len(piece)
            if len(piece) > excess:
                self.pieces.append(piece[: len(piece) - excess])
                self.end += len(piece) - excess
        return True

    def shorten(self, most: int) -> None:
        """Drop pieces from the front while the others have enough."""
        while self.end - self.first - len(self.pieces[0]) >= most:
            self.first += len(self.pieces.pop(0))

    def row(self, position: int) -> FloatArray:
        """One row [H]."""
        for start, piece in self._from_behind():
            if position >= start:
                found: FloatArray = piece[position - start]
                return found
        raise IndexError(position)

    def joined(self) -> FloatArray:
        """All rows [N, H]."""
        return self.pieces[0] if len(self.pieces) == 1 else np.concatenate(self.pieces)

    def _from_behind(self) -> Iterator[tuple[int, FloatArray]]:
        start = self.end
        for piece in reversed(self.pieces):
            start -= len(piece)
            yield start, piece
