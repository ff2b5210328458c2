"""The radix index against a naive model: what is found, what is idle, what is evicted first."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from banyan.engine.cache.key_value_blocks import BlockPool
from banyan.engine.cache.prefix_index import CachedBlock, PrefixIndex

A, B, C, D = b"aaaa", b"bbbb", b"cccc", b"dddd"


def add_chain(index: PrefixIndex, keys: list[bytes], blocks: list[int], salt: str = "") -> None:
    path: list[CachedBlock] = []
    for key, block in zip(keys, blocks, strict=True):
        path.append(index.add(salt, path, key, block))


def found(index: PrefixIndex, keys: list[bytes], salt: str = "") -> list[int]:
    return [node.block for node in index.find(salt, keys)]


def test_the_longest_known_beginning_is_found() -> None:
    index = PrefixIndex()
    add_chain(index, [A, B, C], [7, 8, 9])
    assert found(index, [A, B, D]) == [7, 8]
    assert found(index, [A, B, C, D]) == [7, 8, 9]
    assert found(index, [B]) == []
    assert found(index, []) == []


def test_equal_tokens_after_different_ones_are_different_blocks() -> None:
    index = PrefixIndex()
    add_chain(index, [A, C], [1, 2])
    add_chain(index, [B, C], [3, 4])
    assert found(index, [A, C]) == [1, 2]
    assert found(index, [B, C]) == [3, 4]


def test_a_namespace_never_finds_the_blocks_of_another() -> None:
    index = PrefixIndex()
    add_chain(index, [A], [1], salt="mine")
    assert found(index, [A], salt="yours") == []
    assert found(index, [A]) == []


def test_the_first_block_with_some_contents_stays_the_one_that_is_found() -> None:
    index = PrefixIndex()
    first = index.add("", [], A, 1)
    assert index.add("", [], A, 2) is first
    assert 2 not in index
    assert len(index) == 1


def test_the_longest_unused_leaf_is_evicted_first_and_a_block_never_before_those_after_it() -> None:
    index = PrefixIndex()
    add_chain(index, [A, B], [1, 2])
    add_chain(index, [C, D], [3, 4])
    for block in (4, 3, 2, 1):
        index.rest(block)
    assert [index.evict().block for _ in range(4)] == [4, 3, 2, 1]
    assert len(index) == 0


def test_a_block_that_costs_more_to_compute_again_outlives_a_cheaper_one_of_the_same_age() -> None:
    index = PrefixIndex()
    deep = [bytes([number]) for number in range(40)]
    add_chain(index, deep, list(range(40)))
    add_chain(index, [A], [90])
    for block in (*reversed(range(40)), 90):
        index.rest(block)
    assert index.evict().block == 90


def test_age_wins_over_cost_in_the_end() -> None:
    index = PrefixIndex()
    deep = [bytes([number]) for number in range(40)]
    add_chain(index, deep, list(range(40)))
    for block in reversed(range(40)):
        index.rest(block)
    for block in range(1000, 1400):
        add_chain(index, [b"%d" % block], [block])
        index.rest(block)
        index.evict()
    assert found(index, deep) != list(range(40)), "an old prompt was never evicted"


def test_a_block_in_use_again_is_not_evicted() -> None:
    index = PrefixIndex()
    add_chain(index, [A], [1])
    add_chain(index, [B], [2])
    index.rest(1)
    index.rest(2)
    index.wake(1)
    assert index.num_idle == 1
    assert index.evict().block == 2
    with pytest.raises(IndexError):
        index.evict()


def test_a_namespace_without_blocks_leaves_nothing_behind() -> None:
    index = PrefixIndex()
    for number in range(50):
        add_chain(index, [A], [1], salt=str(number))
        index.rest(1)
        index.evict()
    assert index._roots == {}


@dataclass
class NaivePool:
    """What the pool and the index promise, said in the simplest way."""

    contents: dict[tuple[bytes, ...], int] = field(default_factory=dict)

    def longest(self, keys: tuple[bytes, ...]) -> list[int]:
        blocks = []
        for length in range(1, len(keys) + 1):
            if keys[:length] not in self.contents:
                break
            blocks.append(self.contents[keys[:length]])
        return blocks


NUM_BLOCKS = 12


class SharedPrompts(RuleBasedStateMachine):
    """Sequences of few different blocks come, fill their blocks in any order, and go."""

    @initialize()
    def begin(self) -> None:
        self.index = PrefixIndex()
        self.pool = BlockPool(NUM_BLOCKS, self.index)
        self.naive = NaivePool()
        # Prompt, blocks, and the known ones among them, of everyone who is here.
        self.here: list[tuple[tuple[bytes, ...], list[int], list[CachedBlock]]] = []

    @rule(prompt=st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=5))
    def come(self, prompt: list[bytes]) -> None:
        keys = tuple(prompt)
        path = self.index.find("", keys)
        blocks = [node.block for node in path]
        assert blocks == self.naive.longest(keys)
        self.pool.hold(blocks)
        more = self.pool.reserve(len(keys) - len(blocks))
        if more is None:
            self.pool.release(blocks)
            return
        self._forget_evicted()
        self.here.append((keys, blocks + more, path))

    @precondition(lambda self: self.here)
    @rule(which=st.integers(0, 100))
    def fill_one(self, which: int) -> None:
        keys, blocks, path = self.here[which % len(self.here)]
        place = len(path)
        if place == len(keys):
            return
        node = self.index.add("", path, keys[place], blocks[place])
        path.append(node)
        if node.block != blocks[place]:
            self.pool.hold([node.block])
            self.pool.release([blocks[place]])
            blocks[place] = node.block
        known = self.naive.contents.setdefault(keys[: place + 1], node.block)
        assert known == node.block

    @precondition(lambda self: self.here)
    @rule(which=st.integers(0, 100))
    def go(self, which: int) -> None:
        _, blocks, _ = self.here.pop(which % len(self.here))
        self.pool.release(blocks)

    def _forget_evicted(self) -> None:
        gone = [keys for keys, block in self.naive.contents.items() if block not in self.index]
        for keys in gone:
            del self.naive.contents[keys]

    @invariant()
    def blocks_add_up(self) -> None:
        held = {block for _, blocks, _ in self.here for block in blocks}
        assert self.pool.num_used == len(held)
        assert self.pool.num_free + self.pool.num_used == NUM_BLOCKS

    @invariant()
    def no_held_block_is_forgotten_and_everything_known_can_be_found(self) -> None:
        for _, blocks, path in self.here:
            assert [node.block for node in path] == blocks[: len(path)]
            assert all(node.block in self.index for node in path)
        for keys, block in self.naive.contents.items():
            assert found(self.index, list(keys))[-1:] == [block]

    @invariant()
    def private_blocks_have_one_holder(self) -> None:
        private = [b for _, blocks, path in self.here for b in blocks[len(path) :]]
        assert len(private) == len(set(private))
        assert not any(block in self.index for block in private)

    def teardown(self) -> None:
        for _, blocks, _ in self.here:
            self.pool.release(blocks)
        assert self.pool.num_free == NUM_BLOCKS
        everything = self.pool.reserve(NUM_BLOCKS)
        assert everything is not None
        assert sorted(everything) == list(range(NUM_BLOCKS))
        assert len(self.index) == 0


TestSharedPrompts = SharedPrompts.TestCase
TestSharedPrompts.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
