from functools import partial
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.training.shares import largest_remainder, least_maximum


def test_what_is_left_goes_to_the_largest_remainders() -> None:
    assert largest_remainder([1, 1, 1], 10) == (4, 3, 3)
    assert largest_remainder([4, 2, 1], 10) == (6, 3, 1)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.integers(0, 100))
def test_shares_add_up_and_stay_within_one_of_the_exact(weights: list[float], total: int) -> None:
    shares = largest_remainder(weights, total)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1 + 1e-9


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=3),
    st.integers(1, 9),
    st.lists(st.integers(1, 5), min_size=3, max_size=3),
)
def test_the_longest_time_is_the_least_of_all_shares(
    lines: list[tuple[int, int]], total: int, most: list[int]
) -> None:
    times = [partial(_seconds, line) for line in lines]
    limits = most[: len(lines)]
    found = least_maximum(times, total, limits)
    allowed = [
        shares
        for shares in product(*(range(1, limit + 1) for limit in limits))
        if sum(shares) == total
    ]
    if not allowed:
        assert found is None
        return
    assert found in allowed
    longest = [
        max(take(share) for take, share in zip(times, shares, strict=True)) for shares in allowed
    ]
    assert max(take(share) for take, share in zip(times, found or (), strict=True)) == min(longest)


def _seconds(line: tuple[int, int], count: int) -> float:
    return line[0] + line[1] * count
