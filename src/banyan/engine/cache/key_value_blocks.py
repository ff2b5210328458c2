"""The pool of KV-cache blocks: who holds which block of 16 token places.

Owns block numbers only; the memory itself belongs to the compiled program. A block with known
contents may have several holders, and stays known when the last one leaves, until its place is
needed. Called by `engine.requests.residency`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from banyan.engine.cache.prefix_index import CachedBlock, PrefixIndex

BLOCK_SIZE = 16


def blocks_for(num_tokens: int) -> int:
    """Number of blocks that hold `num_tokens` tokens."""
    return -(-num_tokens // BLOCK_SIZE)


class BlockPool:
    """Hands out block numbers 0..num_blocks-1 and counts the holders of each.

    Args:
        num_blocks: how many there are.
        index: knows the contents of blocks; those it knows are kept when nobody holds them.
        on_evict: told of a known block before it is handed out to be overwritten.
    """

    def __init__(
        self,
        num_blocks: int,
        index: PrefixIndex | None = None,
        *,
        on_evict: Callable[[CachedBlock], None] | None = None,
    ) -> None:
        self.num_blocks = num_blocks
        self._on_evict = on_evict
        self._index = PrefixIndex() if index is None else index
        # The last one freed is handed out first: its memory is the likeliest to be in cache.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._num_holders = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that can be handed out: nobody holds them, whatever they remember."""
        return len(self._free) + self._index.num_idle

    @property
    def num_used(self) -> int:
        """Blocks with a holder."""
        return self.num_blocks - self.num_free

    def num_held_by_nobody_else(self, blocks: Sequence[int], *, held: bool) -> int:
        """How many of `blocks` have no holder, the one who asks (when it has them) not counted.

        `blocks` are those of one sequence, in order. Whoever holds a block holds those before it,
        so the ones that are not shared stand at the end: a long context is not walked through.
        """
        holders = self._num_holders
        return len(blocks) - bisect_left(blocks, True, key=lambda block: holders[block] <= held)

    def reserve(self, count: int) -> list[int] | None:
        """Take `count` blocks, or None, taking nothing, when fewer are free.

        Blocks that remember nothing go first; then the least worth remembering are evicted.
        """
        if count > self.num_free:
            return None
        if count == 0:
            return []
        while len(self._free) < count:
            evicted = self._index.evict()
            if self._on_evict is not None:
                self._on_evict(evicted)
            self._free.append(evicted.block)
        blocks = self._free[: -count - 1 : -1]
        del self._free[-count:]
        for block in blocks:
            self._num_holders[block] = 1
        return blocks

    def hold(self, blocks: Iterable[int]) -> None:
        """Become one more holder of blocks with known contents."""
        for block in blocks:
            assert block in self._index, f"block {block} has no known contents to share"
            if self._num_holders[block] == 0:
                self._index.wake(block)
            self._num_holders[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """Stop holding blocks; each must be held."""
        for block in blocks:
            assert self._num_holders[block], f"block {block} was released twice"
            self._num_holders[block] -= 1
            if self._num_holders[block]:
                continue
            if block in self._index:
                self._index.rest(block)
            else:
                self._free.append(block)
