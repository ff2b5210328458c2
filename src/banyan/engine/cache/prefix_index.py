"""Which blocks of the KV cache hold which tokens: a radix tree over blocks of 16 tokens.

A pure data structure: it knows tokens, block numbers and which blocks nobody uses, and never
touches memory or a clock. A block stands under the block before it, so a path from a root spells
a prompt; each namespace has a root of its own and can never find another's blocks. Called by
`key_value_blocks.BlockPool` (what to evict) and `residency` (what is there).

The tree is the idea of RadixAttention (Zheng et al., NeurIPS 2024) on fixed blocks; the order of
eviction is GreedyDual (Cao and Irani, USITS 1997): a block is worth what computing it again would
cost, and ages as others are evicted. Only leaves are evicted, for what stands under an evicted
block could no longer be found.
"""

import heapq
from collections.abc import Hashable, Iterable, Sequence
from itertools import count

# Attention over so many blocks of context costs about what the rest of a layer costs (4096 tokens
# at the usual ratio of head size to width): from there on a block is worth twice as much.
_BLOCKS_UNTIL_TWICE_THE_COST = 256
_LEAST_ENTRIES_TO_SWEEP = 64


class Branch:
    """A place in the tree that blocks can stand under.

    Attributes:
        depth: blocks on the path to here.
        children: what stands under it, by tokens.
    """

    __slots__ = ("children", "depth")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.children: dict[bytes, CachedBlock] = {}


class Root(Branch):
    """Where the prompts of one namespace begin."""

    __slots__ = ("namespace",)

    def __init__(self, namespace: Hashable) -> None:
        super().__init__(0)
        self.namespace = namespace


class CachedBlock(Branch):
    """One block with known contents.

    Attributes:
        parent: the block before it, or the root of its namespace.
        tokens: its 16 tokens as bytes.
        block: its number in the pool.
        worth: when idle, the higher the later it is evicted.
        is_idle: nobody holds it.
        root: where its namespace begins.
        digest: its name outside of this process, once somebody asked for it.
    """

    __slots__ = ("block", "digest", "is_idle", "parent", "root", "tokens", "worth")

    def __init__(self, parent: "CachedBlock | Root", tokens: bytes, block: int) -> None:
        super().__init__(parent.depth + 1)
        self.parent = parent
        self.root: Root = parent.root if isinstance(parent, CachedBlock) else parent
        self.tokens = tokens
        self.block = block
        self.worth = 0.0
        self.is_idle = False
        self.digest: bytes | None = None


class PrefixIndex:
    """The tree of all blocks with known contents.

    Whoever holds a block holds the blocks before it too, so everything under an idle block is
    idle: that is why all idle blocks can be evicted, leaves first.
    """

    def __init__(self) -> None:
        self._roots: dict[Hashable, Root] = {}
        self._by_block: dict[int, CachedBlock] = {}
        self._num_idle = 0
        # Worth of the last one evicted: newly idle blocks start from here, old ones stay behind.
        self._age = 0.0
        # Idle leaves, cheapest first; entries that are out of date are skipped when they come up.
        self._leaves: list[tuple[float, int, CachedBlock]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._by_block)

    def __contains__(self, block: int) -> bool:
        return block in self._by_block

    @property
    def num_idle(self) -> int:
        """Blocks that nobody holds; each can be evicted."""
        return self._num_idle

    def find(self, namespace: Hashable, keys: Iterable[bytes]) -> list[CachedBlock]:
        """Return the longest known path that spells the beginning of `keys`."""
        path: list[CachedBlock] = []
        place: CachedBlock | Root | None = self._roots.get(namespace)
        if place is None:
            return path
        for key in keys:
            child = place.children.get(key)
            if child is None:
                break
            path.append(child)
            place = child
        return path

    def add(
        self, namespace: Hashable, path: Sequence[CachedBlock], key: bytes, block: int
    ) -> CachedBlock:
        """Say that `block`, which is held, has the contents `key` after `path`.

        Returns what stands at that place: when another block was there before, that one.
        """
        parent = path[-1] if path else self._roots.setdefault(namespace, Root(namespace))
        known = parent.children.get(key)
        if known is not None:
            return known
        added = CachedBlock(parent, key, block)
        parent.children[key] = added
        self._by_block[block] = added
        return added

    def wake(self, block: int) -> None:
        """Note that an idle block is held again."""
        node = self._by_block[block]
        assert node.is_idle, f"block {block} is in use already"
        node.is_idle = False
        self._num_idle -= 1

    def rest(self, block: int) -> None:
        """Note that nobody holds a block any more; it stays findable until it is evicted."""
        node = self._by_block[block]
        assert not node.is_idle, f"block {block} is idle already"
        node.is_idle = True
        node.worth = self._age + 1.0 + node.depth / _BLOCKS_UNTIL_TWICE_THE_COST
        self._num_idle += 1
        self._offer(node)

    def evict(self) -> CachedBlock:
        """Forget the idle leaf that is worth least and return it.

        Raises:
            IndexError: nothing is idle.
        """
        while True:
            worth, _, node = heapq.heappop(self._leaves)
            if self._is_offered(node, worth):
                break
        self._age = worth
        self._num_idle -= 1
        del self._by_block[node.block]
        parent = node.parent
        del parent.children[node.tokens]
        if isinstance(parent, CachedBlock):
            self._offer(parent)
        elif not parent.children:
            # Salts come from outside: what is kept for each of them must end.
            del self._roots[parent.namespace]
        return node

    def nodes(self) -> list[CachedBlock]:
        """All blocks, those near a root first: whoever cannot take all takes whole beginnings."""
        return sorted(self._by_block.values(), key=lambda node: node.depth)

    def _offer(self, node: CachedBlock) -> None:
        if not node.is_idle or node.children:
            return
        heapq.heappush(self._leaves, (node.worth, next(self._order), node))
        if len(self._leaves) > 2 * self._num_idle + _LEAST_ENTRIES_TO_SWEEP:
            self._sweep()

    def _sweep(self) -> None:
        """Drop entries that are out of date, so that they cannot pile up."""
        seen: set[int] = set()
        kept = []
        for worth, order, node in self._leaves:
            if self._is_offered(node, worth) and node.block not in seen:
                seen.add(node.block)
                kept.append((worth, order, node))
        heapq.heapify(kept)
        self._leaves = kept

    def _is_offered(self, node: CachedBlock, worth: float) -> bool:
        return (
            node.is_idle
            and not node.children
            and node.worth == worth
            and self._by_block.get(node.block) is node
        )
