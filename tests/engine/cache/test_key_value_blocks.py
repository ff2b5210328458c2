"""The block pool: nothing is owned twice and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.cache.key_value_blocks import BlockPool, blocks_for


@pytest.mark.parametrize(
    ("num_tokens", "num_blocks"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2), (33, 3)]
)
def test_sixteen_tokens_fit_into_a_block(num_tokens: int, num_blocks: int) -> None:
    assert blocks_for(num_tokens) == num_blocks


def test_a_reservation_that_does_not_fit_takes_nothing() -> None:
    pool = BlockPool(3)
    assert pool.reserve(4) is None
    assert pool.num_free == 3


def test_reserved_blocks_are_different_and_come_back() -> None:
    pool = BlockPool(4)
    first, second = pool.reserve(3), pool.reserve(1)
    assert first is not None
    assert second is not None
    assert sorted(first + second) == [0, 1, 2, 3]
    assert pool.reserve(1) is None
    pool.release(second)
    assert pool.num_used == 3
    assert pool.reserve(1) == second


def test_reserving_nothing_gives_nothing_even_when_full() -> None:
    pool = BlockPool(1)
    pool.reserve(1)
    assert pool.reserve(0) == []


def test_releasing_a_block_twice_is_a_fault_of_ours() -> None:
    pool = BlockPool(2)
    blocks = pool.reserve(1)
    assert blocks is not None
    pool.release(blocks)
    with pytest.raises(AssertionError, match="released twice"):
        pool.release(blocks)


@given(st.lists(st.integers(0, 6), max_size=40))
def test_free_and_used_blocks_always_add_up(sizes: list[int]) -> None:
    pool = BlockPool(10)
    owned: list[list[int]] = []
    for size in sizes:
        blocks = pool.reserve(size)
        if blocks is None:
            pool.release(owned.pop(0))
        else:
            owned.append(blocks)
        held = [block for blocks in owned for block in blocks]
        assert len(held) == len(set(held)) == pool.num_used
        assert pool.num_free + pool.num_used == 10
