"""The pool of KV-cache blocks: who owns which block of 16 token places.

Owns block numbers only; the memory itself belongs to the compiled program. Called by `engine`.
"""

from collections.abc import Iterable

BLOCK_SIZE = 16


def blocks_for(num_tokens: int) -> int:
    """Number of blocks that hold `num_tokens` tokens."""
    return -(-num_tokens // BLOCK_SIZE)


class BlockPool:
    """Hands out block numbers 0..num_blocks-1, each to at most one owner at a time."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        # The last one freed is handed out first: its memory is the likeliest to be in cache.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._is_used = bytearray(num_blocks)

    @property
    def num_free(self) -> int:
        """Blocks without an owner."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        """Blocks with an owner."""
        return self.num_blocks - len(self._free)

    def reserve(self, count: int) -> list[int] | None:
        """Take `count` blocks, or None, taking nothing, when fewer are free."""
        if count > len(self._free):
            return None
        if count == 0:
            return []
        blocks = self._free[: -count - 1 : -1]
        del self._free[-count:]
        for block in blocks:
            self._is_used[block] = 1
        return blocks

    def release(self, blocks: Iterable[int]) -> None:
        """Give blocks back; each must be in use."""
        for block in blocks:
            assert self._is_used[block], f"block {block} was released twice"
            self._is_used[block] = 0
            self._free.append(block)
