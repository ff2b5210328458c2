"""Rows of images that were encoded, each kept as long as an answer needs it. Pure."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from banyan.engine.scheduling.scheduler import SequenceId

MOST_ROWS = 16_384
"""That wait for their turn, together; the next in line gets its own whatever others have."""


@dataclass(slots=True)
class _Held:
    """The rows of one image, and who needs them."""

    rows: NDArray[Any]
    holders: set[SequenceId] = field(default_factory=set)


class RowStore:
    """Rows by the digest of their image: answers that show the same one share them.

    Attributes:
        num_rows: of all images together.
    """

    def __init__(self) -> None:
        self._held: dict[bytes, _Held] = {}
        self._by_holder: dict[SequenceId, set[bytes]] = {}
        self.num_rows = 0

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._held

    def __len__(self) -> int:
        return len(self._held)

    def rows(self, digest: bytes) -> NDArray[Any]:
        """Give the rows [tokens, numbers] of an image that somebody holds."""
        return self._held[digest].rows

    def add(self, digest: bytes, rows: NDArray[Any], holder: SequenceId) -> None:
        """Keep new rows for an answer."""
        assert digest not in self._held, "these rows are kept already"
        self._held[digest] = _Held(rows)
        self.num_rows += len(rows)
        self.hold(digest, holder)

    def hold(self, digest: bytes, holder: SequenceId) -> bool:
        """Need rows, too; False when they are not there."""
        held = self._held.get(digest)
        if held is None:
            return False
        held.holders.add(holder)
        self._by_holder.setdefault(holder, set()).add(digest)
        return True

    def release(self, digest: bytes, holder: SequenceId) -> None:
        """Need rows no longer; nothing happens when the answer did not hold them."""
        digests = self._by_holder.get(holder, set())
        if digest not in digests:
            return
        digests.remove(digest)
        if not digests:
            del self._by_holder[holder]
        held = self._held[digest]
        held.holders.remove(holder)
        if not held.holders:
            self.num_rows -= len(held.rows)
            del self._held[digest]

    def release_all(self, holder: SequenceId) -> None:
        """Need nothing any longer."""
        for digest in tuple(self._by_holder.get(holder, ())):
            self.release(digest, holder)
