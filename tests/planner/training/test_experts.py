from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.training.experts import (
    ExpertCosts,
    expert_costs,
    place_experts,
    shadowed_experts,
)

# Per token 3 x 1 + 4 x 1 = 7.
COSTS = ExpertCosts(token_seconds=1.0, copy_seconds=10.0, compute_seconds=1.0)


def test_the_costs_are_those_of_the_paper() -> None:
    costs = expert_costs(
        hidden_size=4,
        expert_size=8,
        bytes_per_number=2.0,
        network_bytes_per_second=1.0,
        operations_per_second=1.0,
    )
    # alpha = 2: d s, 2 alpha d^2 s, 4 alpha d^2.
    assert costs == ExpertCosts(token_seconds=8.0, copy_seconds=128.0, compute_seconds=128.0)


def test_a_popular_expert_is_copied_while_that_makes_the_layer_quicker() -> None:
    # 700 -> 10 + 7 x 9 = 73 -> 20 + 7 x 8 = 76: one copy.
    assert shadowed_experts([9, 100, 8, 1], COSTS) == (1,)
    # 700 -> 10 + 630 -> 20 + 7 x 2 = 34: two.
    assert shadowed_experts([2, 100, 90, 1], COSTS) == (1, 2)
    assert shadowed_experts([5, 5, 5], COSTS) == ()
    assert shadowed_experts([], COSTS) == ()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_every_copy_makes_the_layer_quicker_and_the_next_would_not(tokens: list[int]) -> None:
    chosen = shadowed_experts(tokens, COSTS)
    order = [*sorted(tokens, reverse=True), 0]
    latency = [7 * order[count] + 10 * count for count in range(len(order))]
    count = len(chosen)
    assert all(latency[i + 1] < latency[i] for i in range(count))
    assert count == len(tokens) or latency[count + 1] >= latency[count]


def test_a_device_twice_as_quick_gets_twice_the_work() -> None:
    placed = place_experts([1.0] * 6, [2.0, 1.0], [6, 6])
    assert placed.count(0) == 4


def test_rooms_are_kept_and_too_few_are_refused() -> None:
    assert place_experts([5, 4, 3], [1.0, 1.0], [2, 1]).count(1) == 1
    with pytest.raises(InputError, match="4 experts do not fit: the devices have room for 3"):
        place_experts([1, 1, 1, 1], [1.0, 1.0], [2, 1])


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.lists(st.integers(1, 4), min_size=2, max_size=3),
    st.integers(0, 2),
)
def test_the_slowest_device_is_near_the_best_placing(
    loads: list[int], speeds: list[int], spare: int
) -> None:
    room = -(-len(loads) // len(speeds)) + spare
    rooms = [room] * len(speeds)
    placed = place_experts(loads, speeds, rooms)
    assert all(placed.count(device) <= room for device in range(len(speeds)))
    best = min(
        _longest(loads, speeds, other)
        for other in product(range(len(speeds)), repeat=len(loads))
        if all(other.count(device) <= room for device in range(len(speeds)))
    )
    assert best <= _longest(loads, speeds, placed) <= best * 4 / 3 + 1e-9


def _longest(loads: list[int], speeds: list[int], placed: tuple[int, ...]) -> float:
    work = [0.0] * len(speeds)
    for load, device in zip(loads, placed, strict=True):
        work[device] += load
    return max(done / speed for done, speed in zip(work, speeds, strict=True))
