"""Places in a shared memory never overlap, whatever is given back first."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.distributed.arena import Arena


def test_the_lowest_gap_that_is_wide_enough_is_taken() -> None:
    arena = Arena(1024)
    assert [arena.take(100), arena.take(256), arena.take(64)] == [0, 128, 384]
    assert arena.give_back(0)
    assert not arena.give_back(0)
    assert arena.take(192) == 448
    assert arena.take(128) == 0
    assert arena.take(1024) is None
    assert not arena.give_back(64)
    assert arena.num_taken == 4


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=60))
def test_what_is_taken_never_overlaps_and_lies_inside(steps: list[tuple[bool, int]]) -> None:
    arena, taken = Arena(1024), dict[int, tuple[int, int]]()
    for gives_back, value in steps:
        if gives_back and taken:
            chosen = sorted(taken)[value % len(taken)]
            assert arena.give_back(chosen)
            del taken[chosen]
            continue
        start = arena.take(value)
        if start is None:
            # No gap of that size is left between, before or behind what is taken.
            edges = [0, *(e for span in sorted(taken.values()) for e in span), 1024]
            gaps = [edges[i + 1] - edges[i] for i in range(0, len(edges), 2)]
            assert max(gaps) < -(-value // 64) * 64
            continue
        end = start + -(-value // 64) * 64
        assert start % 64 == 0
        assert end <= 1024
        assert all(end <= begin or start >= stop for begin, stop in taken.values())
        taken[start] = (start, end)
    for start in list(taken):
        assert arena.give_back(start)
    assert arena.num_taken == 0
