"""What a pooling model is asked: one prompt, one vector. Frozen data only; imports no NumPy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolingPrompt:
    """One text, or one pair of texts, in tokens.

    Attributes:
        token_ids: special tokens included.
        token_types: for each token which text of a pair it belongs to; empty means the first.
    """

    token_ids: tuple[int, ...]
    token_types: tuple[int, ...] = ()
