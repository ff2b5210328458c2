"""What the sampler needs of a structure: which tokens may come next, token by token.

Dims: W 32-bit words of a mask, one bit for each token of the vocabulary, lowest bit first.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MaskArray = NDArray[np.int32]


def mask_words(vocab_size: int) -> int:
    """Number of 32-bit words that hold one bit per token."""
    return (vocab_size + 31) // 32


class TokenConstraint(Protocol):
    """The state of one answer within its structure. Used by one thread at a time."""

    @property
    def is_finished(self) -> bool:
        """True when nothing may follow: the answer is whole, or `failure` says why not."""
        ...

    @property
    def failure(self) -> str | None:
        """Why the structure cannot be followed any further, in one sentence, or None."""
        ...

    def fill(self, mask_W: MaskArray) -> None:
        """Write which tokens may come next."""
        ...

    def accept(self, token_id: int) -> None:
        """Go on past a token of the answer; one that was forbidden is a `failure`."""
        ...

    def count_valid(self, token_ids: Sequence[int]) -> int:
        """How many of the tokens could follow one after the other; changes nothing."""
        ...

    def rollback(self, num_tokens: int) -> None:
        """Take back the newest tokens, none of which may have ended the answer."""
        ...
