"""Tokens and block numbers of the running sequences as arrays, one lane (row) for each.

The runner reads whole steps out of these arrays with a few NumPy calls instead of walking Python
lists token by token. Owned by the engine.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from banyan.engine.cache.key_value_blocks import blocks_for

Int32Array = NDArray[np.int32]


class SequenceTable:
    """Rows of tokens and blocks; L lanes, up to T tokens and B blocks in each.

    Attributes:
        tokens_LT: known tokens of the lane's sequence.
        blocks_LB: its blocks in order of position; what is behind the last one means nothing.
        adapters_L: the slot of its adapter, negative for none; None for a model without slots.
    """

    def __init__(self, num_lanes: int, max_model_len: int, *, has_adapters: bool = False) -> None:
        # Zeroed pages cost nothing until a sequence is long enough to touch them.
        self.tokens_LT: Int32Array = np.zeros((num_lanes, max_model_len), dtype=np.int32)
        self.blocks_LB: Int32Array = np.zeros(
            (num_lanes, blocks_for(max_model_len)), dtype=np.int32
        )
        self.adapters_L: Int32Array | None = None
        if has_adapters:
            self.adapters_L = np.full(num_lanes, -1, dtype=np.int32)
        self._free = list(range(num_lanes - 1, -1, -1))

    def open_lane(self, tokens: list[int]) -> int:
        """Take a free lane and write the tokens a sequence starts with."""
        lane = self._free.pop()
        self.tokens_LT[lane, : len(tokens)] = tokens
        if self.adapters_L is not None:
            self.adapters_L[lane] = -1
        return lane

    def set_adapter(self, lane: int, slot: int) -> None:
        """Say which slot the adapter of a lane's sequence sits in."""
        assert self.adapters_L is not None, "the model has no slots for adapters"
        self.adapters_L[lane] = slot

    def close_lane(self, lane: int) -> None:
        """Give a lane back."""
        assert lane not in self._free, f"lane {lane} was closed twice"
        self._free.append(lane)

    def append_tokens(self, lane: int, position: int, token_ids: Sequence[int]) -> None:
        """Write tokens from `position` on, over guesses that were not taken.

        What lies past the table's end is never read and is dropped.
        """
        room = self.tokens_LT.shape[1] - position
        if room > 0:
            stop = position + min(room, len(token_ids))
            self.tokens_LT[lane, position:stop] = token_ids[:room]

    def append_blocks(self, lane: int, num_before: int, blocks: list[int]) -> None:
        """Write new blocks behind the `num_before` that the lane has."""
        self.blocks_LB[lane, num_before : num_before + len(blocks)] = blocks
