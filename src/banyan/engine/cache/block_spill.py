"""Keeps evicted blocks when that is cheaper than computing them again, and brings them back.

This is also how a sequence that gave way gets its blocks back: they become idle, are evicted only
when their place is needed, and come back from memory or disk, or are computed again, whichever is
expected to take less time. Called by `residency.Residency`.
"""

import hashlib
import time
from collections.abc import Callable, Hashable, Sequence

from banyan.engine.cache.block_memory import BlockMemory
from banyan.engine.cache.block_store import BlockStore
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE
from banyan.engine.cache.prefix_index import CachedBlock, Root

# Seconds to compute so many tokens behind so many others; 0 while that is not known.
SecondsToCompute = Callable[[int, int], float]

_NEWEST_COUNTS = 0.1


class BlockSpill:
    """Moves blocks between the cache and a store.

    Args:
        memory: the blocks of the cache.
        store: where they are kept.
        clock: seconds that only go forward.

    Attributes:
        num_saved: blocks written to the store.
        num_loaded: blocks read back.
    """

    def __init__(
        self,
        memory: BlockMemory,
        store: BlockStore,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._store = store
        self._clock = clock
        self._seconds_to_load: float | None = None
        self._seconds_to_compute: SecondsToCompute = _not_known
        self.num_saved = 0
        self.num_loaded = 0

    def compare_with(self, seconds_to_compute: SecondsToCompute) -> None:
        """Say what computing costs; without it everything is worth keeping."""
        self._seconds_to_compute = seconds_to_compute

    def save(self, node: CachedBlock) -> None:
        """Keep a block that is about to be overwritten, if reading it back is worth it."""
        digest = digest_of(node)
        if digest not in self._store and self._pays(node.depth - 1, 1):
            self._store.put(digest, self._memory.read(node.block))
            self.num_saved += 1

    def find(
        self, namespace: Hashable, path: Sequence[CachedBlock], keys: Sequence[bytes]
    ) -> list[bytes]:
        """The digests of the stored blocks that follow `path` on the way that `keys` spell.

        Empty when computing them is expected to be faster than reading them.
        """
        digest = digest_of(path[-1]) if path else _digest_of_root(namespace)
        found = []
        for key in keys[len(path) :]:
            digest = _next_digest(digest, key)
            if digest not in self._store:
                break
            found.append(digest)
        return found if self._pays(len(path), len(found)) else []

    def load(self, digest: bytes, block: int) -> bool:
        """Bring a stored block into the cache; False when it is gone or damaged."""
        began = self._clock()
        content = self._store.get(digest)
        if content is None or len(content) != self._memory.bytes_per_block:
            return False
        self._memory.write(block, content)
        seconds = self._clock() - began
        known = seconds if self._seconds_to_load is None else self._seconds_to_load
        self._seconds_to_load = known + _NEWEST_COUNTS * (seconds - known)
        self.num_loaded += 1
        return True

    def flush(self) -> None:
        """Keep what was saved beyond the end of this process, where the store can."""
        self._store.flush()

    def _pays(self, depth: int, num_blocks: int) -> bool:
        compute = self._seconds_to_compute(depth * BLOCK_SIZE, num_blocks * BLOCK_SIZE)
        if compute == 0.0 or self._seconds_to_load is None:
            return True
        return num_blocks * self._seconds_to_load < compute


def digest_of(node: CachedBlock) -> bytes:
    """Name a block by who may share it and all tokens up to its end."""
    unnamed = []
    place: CachedBlock | Root = node
    while isinstance(place, CachedBlock) and place.digest is None:
        unnamed.append(place)
        place = place.parent
    digest = place.digest if isinstance(place, CachedBlock) else _digest_of_root(place.namespace)
    assert digest is not None, "the loop stops at a named block or at a root"
    for block in reversed(unnamed):
        digest = block.digest = _next_digest(digest, block.tokens)
    return digest


def _digest_of_root(namespace: Hashable) -> bytes:
    return hashlib.sha256(repr(namespace).encode()).digest()


def _next_digest(digest: bytes, key: bytes) -> bytes:
    return hashlib.sha256(digest + key).digest()


def _not_known(start: int, num_tokens: int) -> float:
    return 0.0
