"""Single tokens in a mask of 32-bit words."""

import numpy as np
from numpy.typing import NDArray

IdArray = NDArray[np.int64]
MaskArray = NDArray[np.int32]


def set_bits(mask_W: MaskArray, token_ids: IdArray) -> None:
    """Allow tokens."""
    np.bitwise_or.at(mask_W.view(np.uint32), token_ids // 32, _bits(token_ids))


def clear_bits(mask_W: MaskArray, token_ids: IdArray) -> None:
    """Forbid tokens."""
    np.bitwise_and.at(mask_W.view(np.uint32), token_ids // 32, ~_bits(token_ids))


def _bits(token_ids: IdArray) -> NDArray[np.uint32]:
    return np.uint32(1) << (token_ids % 32).astype(np.uint32)
