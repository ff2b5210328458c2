import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.planner.serving.covering import cheapest_covers, layers_at_rate


def cheapest(
    layers: list[int], prices: list[float], limits: list[int], wanted: int, most: int
) -> float:
    """By trying everything."""
    best = float("inf")
    for counts in itertools.product(*(range(limit + 1) for limit in limits)):
        covered = sum(a * b for a, b in zip(counts, layers, strict=True))
        if covered >= wanted and sum(counts) <= most:
            best = min(best, sum(a * b for a, b in zip(counts, prices, strict=True)))
    return best


def test_a_group_may_hold_what_it_still_serves_at_the_rate() -> None:
    rates = np.array([[8.0, 4.0, 2.0], [3.0, 3.0, 0.0]])
    found = layers_at_rate(rates, np.array([2.0, 3.0, 8.0, 9.0]))
    assert found.tolist() == [[3, 2], [2, 2], [1, 0], [0, 0]]


def test_a_rate_that_more_layers_reach_again_counts() -> None:
    assert layers_at_rate(np.array([[2.0, 1.0, 2.0]]), np.array([2.0])).tolist() == [[3]]


KINDS = st.integers(1, 3).flatmap(
    lambda kinds: st.tuples(
        st.lists(st.integers(0, 5), min_size=kinds, max_size=kinds),
        st.lists(st.integers(1, 9).map(float), min_size=kinds, max_size=kinds),
        st.lists(st.integers(0, 4), min_size=kinds, max_size=kinds),
    )
)


@settings(max_examples=60, deadline=None)
@given(KINDS, st.integers(1, 12), st.integers(1, 8))
def test_covers_are_as_cheap_as_trying_everything(
    kinds: tuple[list[int], list[float], list[int]], wanted: int, most: int
) -> None:
    layers, prices, limits = kinds
    found = cheapest_covers(
        np.array([layers]), np.array([prices]), np.array(limits), wanted, np.array([most])
    )
    best = cheapest(layers, prices, limits, wanted, most)
    unlimited = cheapest(layers, prices, limits, wanted, 99)
    # With a limit on groups the price may be missed, the floor never lies above the best.
    assert found.floors[0] <= best + 1e-9
    if unlimited == best or best == float("inf"):
        assert found.prices[0] >= best
    counts = found.counts[0]
    if np.isfinite(found.prices[0]):
        assert counts @ np.array(layers) >= wanted
        assert counts.sum() <= most
        assert (counts <= limits).all()
        assert found.prices[0] == counts @ np.array(prices)
    if most >= 12 and np.isfinite(best):
        assert found.prices[0] == best
