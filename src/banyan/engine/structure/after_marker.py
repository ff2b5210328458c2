"""A structure behind a section of reasoning: free text up to a marker, then the structure."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from banyan.engine.structure.bits import clear_bits, set_bits
from banyan.engine.structure.constraint import MaskArray, TokenConstraint


class AfterMarker:
    """Free text up to a marker, then a structure; a `TokenConstraint`.

    No token may end the answer before the marker: a section of reasoning alone is no answer.

    Args:
        inner: the structure that follows, at its beginning.
        marker: the text that ends the free part.
        bytes_of: gives the bytes of a token.
        forbidden: the end tokens.
        opening: the token that begins the free part; without it the structure begins at once.
            None when the free part has begun already.
    """

    def __init__(
        self,
        inner: TokenConstraint,
        marker: str,
        bytes_of: Callable[[int], bytes],
        *,
        forbidden: Collection[int],
        opening: int | None,
    ) -> None:
        self._inner = inner
        self._marker = marker.encode()
        self._bytes_of = bytes_of
        self._forbidden = np.array(sorted(forbidden), dtype=np.int64)
        self._opening = opening
        self._free: list[bytes] = []
        self._num_inner = 0
        self._has_begun = False

    @property
    def is_finished(self) -> bool:
        """True when the structure is whole."""
        return self._has_begun and self._inner.is_finished

    @property
    def failure(self) -> str | None:
        """Why the structure cannot be followed any further, or None."""
        return self._inner.failure

    def fill(self, mask_W: MaskArray) -> None:
        """Write which tokens may come next."""
        if self._has_begun:
            self._inner.fill(mask_W)
        elif self._opening is not None and not self._free:
            self._inner.fill(mask_W)
            set_bits(mask_W, np.array([self._opening]))
        else:
            mask_W.fill(-1)
            clear_bits(mask_W, self._forbidden)

    def accept(self, token_id: int) -> None:
        """Go on past a token."""
        if not self._has_begun and self._leaves_out_reasoning(token_id):
            self._has_begun = True
        if self._has_begun:
            self._num_inner += 1
            self._inner.accept(token_id)
            return
        self._free.append(self._bytes_of(token_id))
        self._has_begun = self._ends_with_marker(self._free)

    def count_valid(self, token_ids: Sequence[int]) -> int:
        """How many of the tokens could follow."""
        if self._has_begun or (token_ids and self._leaves_out_reasoning(token_ids[0])):
            return self._inner.count_valid(token_ids)
        free = list(self._free)
        for place, token_id in enumerate(token_ids):
            if token_id in self._forbidden:
                return place
            free.append(self._bytes_of(token_id))
            if self._ends_with_marker(free):
                return place + 1 + self._inner.count_valid(token_ids[place + 1 :])
        return len(token_ids)

    def rollback(self, num_tokens: int) -> None:
        """Take back the newest tokens."""
        num_inner = min(num_tokens, self._num_inner)
        if num_inner:
            self._inner.rollback(num_inner)
            self._num_inner -= num_inner
        if num_tokens > num_inner:
            del self._free[num_inner - num_tokens :]
        self._has_begun = self._num_inner > 0 or self._ends_with_marker(self._free)

    def _leaves_out_reasoning(self, token_id: int) -> bool:
        if self._opening is None or self._free:
            return False
        # A token that could begin both begins the structure, which is all that can be checked.
        return token_id != self._opening or self._inner.count_valid([token_id]) == 1

    def _ends_with_marker(self, free: Sequence[bytes]) -> bool:
        # A token may bring the white space behind the marker along.
        tail = b"".join(free[-len(self._marker) - 8 :])
        return tail.rstrip().endswith(self._marker)
