"""Which sequences are in the KV cache, and where: lanes, blocks, and what is shared.

Owns the block pool, the prefix index and the sequence table and keeps them in step; decides
nothing about who may enter. Called by `engine.Engine` around each step.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice

from banyan.engine.adapters.library import AdapterLibrary
from banyan.engine.cache.block_spill import BlockSpill
from banyan.engine.cache.key_value_blocks import BLOCK_SIZE, BlockPool, blocks_for
from banyan.engine.cache.prefix_index import CachedBlock, PrefixIndex
from banyan.engine.cache.sequence_table import SequenceTable
from banyan.engine.options import EngineLimits
from banyan.engine.requests.cache_key import CacheKey, cache_key_of, extend_block_keys
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.scheduling.scheduler import Demand

# Fewer free blocks for each running sequence than this: some may have to go in this step.
_SCARCE_BLOCKS_PER_SEQUENCE = 4


class Residency:
    """The sequences that hold blocks.

    Whole blocks whose tokens are computed are put into the index, where other sequences of the
    same `cache_key_of` find them. The last known token is never taken from the cache: the model
    must see it for there to be logits.

    Args:
        limits: of the engine.
        shares_prefixes: false forgets blocks when they are given back.
        adapters: their slots; None when the model has none.
        spill: keeps evicted blocks elsewhere and brings them back; None forgets them.

    Attributes:
        table: what the runner reads.
        num_queried_tokens: prompt tokens of all requests that began to run.
        num_found_tokens: how many of them were in the cache.
    """

    def __init__(
        self,
        limits: EngineLimits,
        *,
        shares_prefixes: bool,
        adapters: AdapterLibrary | None = None,
        spill: BlockSpill | None = None,
    ) -> None:
        self.table = SequenceTable(
            limits.max_num_seqs, limits.max_model_len, has_adapters=adapters is not None
        )
        self._adapters = adapters
        self._index = PrefixIndex()
        self._spill = spill
        self._pool = BlockPool(limits.num_blocks, self._index, on_evict=self._save)
        self._shares_prefixes = shares_prefixes
        self._num_resident = 0
        self.num_queried_tokens = 0
        self.num_found_tokens = 0

    @property
    def num_free_blocks(self) -> int:
        """Blocks that can be handed out."""
        return self._pool.num_free

    @property
    def num_blocks(self) -> int:
        """All blocks."""
        return self._pool.num_blocks

    @property
    def num_saved_blocks(self) -> int:
        """Evicted blocks that were kept elsewhere."""
        return 0 if self._spill is None else self._spill.num_saved

    @property
    def num_loaded_blocks(self) -> int:
        """Blocks that were brought back."""
        return 0 if self._spill is None else self._spill.num_loaded

    def running_demand(
        self, answer: Answer, num_drafts: int = 0, *, is_outranked: bool = False
    ) -> Demand:
        """A resident sequence as the scheduler sees it, with so many guesses to be checked.

        `is_outranked` when somebody more urgent waits, who may take its place.
        """
        num_unshared = None
        if is_outranked or self._pool.num_free < _SCARCE_BLOCKS_PER_SEQUENCE * self._num_resident:
            num_unshared = self._pool.num_held_by_nobody_else(answer.blocks, held=True)
        num_tokens = len(answer.token_ids)
        next_block = None
        if not answer.is_decoding:
            next_block = self._next_block(answer, answer.path, num_tokens)
        return Demand(
            answer.sequence_id,
            num_tokens,
            answer.num_computed,
            len(answer.blocks),
            num_drafts,
            num_unshared=num_unshared,
            next_block=next_block,
            priority=answer.request.context.priority,
        )

    def waiting_demand(self, answer: Answer) -> Demand:
        """A sequence that waits as the scheduler sees it, with what it would find."""
        path = self._find(answer)
        found = [node.block for node in path]
        return Demand(
            answer.sequence_id,
            len(answer.token_ids),
            len(found) * BLOCK_SIZE,
            len(found),
            num_unshared=self._pool.num_held_by_nobody_else(found, held=False),
            next_block=self._next_block(answer, path, len(answer.token_ids) - 1),
            priority=answer.request.context.priority,
        )

    def num_found(self, answer: Answer) -> int:
        """How many tokens of a sequence that waits are in the cache."""
        return len(self._find(answer)) * BLOCK_SIZE

    def waiting_demands(self, waiting: Iterable[Answer]) -> Iterator[Demand]:
        """Those that wait as the scheduler sees them, without such whose adapter finds no slot."""
        if self._adapters is not None:
            waiting = self._adapters.seatable(waiting)
        return map(self.waiting_demand, waiting)

    def bring_back(self, answer: Answer) -> None:
        """Bring stored blocks of one that waits into the cache, where it will find them.

        Only when the whole sequence would find room: else they would push each other out.
        """
        namespace = cache_key_of(answer.request)
        if self._spill is None or not self._shares_prefixes or answer.computes_all:
            return
        if not namespace.is_lasting:
            return
        path = self._find(answer)
        room = self._pool.num_free + len(path)
        if room < blocks_for(len(answer.token_ids)):
            return
        keys = answer.block_keys[: (len(answer.token_ids) - 1) // BLOCK_SIZE]
        digests = self._spill.find(namespace, path, keys)
        held = [node.block for node in path]
        self._pool.hold(held)
        for digest, key in zip(digests, keys[len(path) :], strict=False):
            blocks = self._pool.reserve(1)
            if blocks is None or not self._spill.load(digest, blocks[0]):
                self._pool.release(blocks or ())
                break
            path.append(self._index.add(namespace, path, key, blocks[0]))
            held += blocks
        self._pool.release(reversed(held))

    def close(self) -> None:
        """Keep what is known for the next process, where that was asked for."""
        if self._spill is not None:
            for node in self._index.nodes():
                self._save(node)
            self._spill.flush()

    def enter(self, answer: Answer) -> None:
        """Give a sequence a lane and the blocks it finds; it is running then."""
        answer.start(self.table.open_lane(answer.token_ids))
        assert answer.lane is not None
        if answer.adapter is not None and self._adapters is not None:
            self.table.set_adapter(answer.lane, self._adapters.seat(answer.adapter))
        self._num_resident += 1
        answer.path = self._find(answer)
        found = [node.block for node in answer.path]
        self._pool.hold(found)
        self.table.append_blocks(answer.lane, 0, found)
        answer.blocks = found
        answer.num_computed = len(found) * BLOCK_SIZE
        if answer.num_cached_tokens is None:
            num_prompt_tokens = len(answer.request.prompt_token_ids)
            answer.num_cached_tokens = min(answer.num_computed, num_prompt_tokens)
            self.num_queried_tokens += num_prompt_tokens
            self.num_found_tokens += answer.num_cached_tokens

    def grow(self, answer: Answer, num_blocks: int) -> None:
        """Give a resident sequence further blocks."""
        assert answer.lane is not None
        blocks = self._pool.reserve(num_blocks)
        assert blocks is not None, "the plan took more blocks than there are"
        self.table.append_blocks(answer.lane, len(answer.blocks), blocks)
        answer.blocks.extend(blocks)

    def note_computed(self, answer: Answer) -> None:
        """Let others find the blocks that a resident sequence has filled by now.

        When another one filled an equal block first, that one is held instead of its own.
        """
        num_full = answer.num_computed // BLOCK_SIZE
        if not self._shares_prefixes or num_full == len(answer.path):
            return
        assert answer.lane is not None
        namespace = cache_key_of(answer.request)
        _extend_keys(answer, num_full)
        for place in range(len(answer.path), num_full):
            own = answer.blocks[place]
            node = self._index.add(namespace, answer.path, answer.block_keys[place], own)
            answer.path.append(node)
            if node.block != own:
                self._pool.hold([node.block])
                self._pool.release([own])
                answer.blocks[place] = node.block
                self.table.append_blocks(answer.lane, place, [node.block])

    def append_tokens(self, answer: Answer, position: int, token_ids: Sequence[int]) -> None:
        """Write tokens of a resident sequence for the runner, from `position` on."""
        assert answer.lane is not None
        self.table.append_tokens(answer.lane, position, token_ids)

    def note_chosen(self, answer: Answer, token_ids: Sequence[int]) -> None:
        """Take in the newest tokens of a resident sequence, all behind what was computed.

        All but the last one were guessed and computed in the same step; blocks for guesses that
        were wrong go back.
        """
        answer.num_computed = len(answer.token_ids) - 1
        self.append_tokens(answer, len(answer.token_ids) - len(token_ids), token_ids)
        self.note_computed(answer)
        num_kept = blocks_for(len(answer.token_ids))
        if len(answer.blocks) > num_kept:
            self._pool.release(answer.blocks[num_kept:])
            del answer.blocks[num_kept:]

    def leave(self, answer: Answer) -> None:
        """Take lane and blocks from a sequence, if it has them; shared and known ones remain."""
        if answer.lane is None:
            return
        self._num_resident -= 1
        if answer.adapter is not None and self._adapters is not None:
            self._adapters.leave(answer.adapter)
        self._pool.release(answer.blocks)
        self.table.close_lane(answer.lane)

    def _save(self, node: CachedBlock) -> None:
        namespace = node.root.namespace
        if self._spill is not None and isinstance(namespace, CacheKey) and namespace.is_lasting:
            self._spill.save(node)

    def _find(self, answer: Answer) -> list[CachedBlock]:
        """The blocks that are there of all whole ones before the last token."""
        if not self._shares_prefixes or answer.computes_all:
            return []
        num_blocks = (len(answer.token_ids) - 1) // BLOCK_SIZE
        _extend_keys(answer, num_blocks)
        keys = islice(answer.block_keys, num_blocks)
        return self._index.find(cache_key_of(answer.request), keys)

    def _next_block(
        self, answer: Answer, path: Sequence[CachedBlock], num_tokens: int
    ) -> Hashable | None:
        """What stands behind `path` when the first `num_tokens` tokens fill one more block."""
        cannot_share = not self._shares_prefixes or answer.computes_all
        if cannot_share or num_tokens < (len(path) + 1) * BLOCK_SIZE:
            return None
        _extend_keys(answer, len(path) + 1)
        before = path[-1].block if path else cache_key_of(answer.request)
        return (before, answer.block_keys[len(path)])


def _extend_keys(answer: Answer, num_blocks: int) -> None:
    sight = answer.request.sight
    images = () if sight is None else sight.images
    extend_block_keys(answer.block_keys, answer.token_ids, num_blocks, images)
