from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.training.cutting import cut_layers, fits
from banyan.planner.training.layer_costs import LayerCosts
from banyan.planner.training.order import StageTimes, estimated_seconds, num_in_flight


def layers(seconds: list[int], *, memory: int = 10**6, kept: int = 0) -> LayerCosts:
    """One byte of state for each layer."""
    sums = np.concatenate(([0.0], np.cumsum(np.array(seconds, dtype=float))))
    ones = np.arange(len(seconds) + 1, dtype=float)
    return LayerCosts(sums, 2 * sums, ones, kept * ones, ones, memory)


def test_a_device_of_half_the_speed_gets_a_third_of_the_layers() -> None:
    assert cut_layers([layers([1] * 6), layers([2] * 6)], 1000, "1f1b") == (4, 6)


def test_few_micro_batches_go_the_short_way_and_many_share_the_load() -> None:
    stages = [layers([1] * 4), layers([3] * 4)]
    assert cut_layers(stages, 1, "1f1b") == (3, 4)
    stages = [layers([2, 2, 1, 1]), layers([3, 3, 1, 1])]
    assert cut_layers(stages, 1000, "1f1b") == (2, 4)


def test_memory_moves_the_cut_and_too_little_of_it_forbids_all() -> None:
    assert cut_layers([layers([1] * 6, memory=2), layers([2] * 6)], 9, "1f1b") == (2, 6)
    assert cut_layers([layers([1] * 6, memory=2), layers([2] * 6, memory=3)], 9, "1f1b") is None
    assert cut_layers([layers([1]), layers([1])], 9, "1f1b") is None


def test_gpipe_keeps_what_one_forward_one_backward_frees() -> None:
    stages = [layers([1] * 4, memory=20, kept=3), layers([1] * 4, memory=20, kept=3)]
    assert cut_layers(stages, 6, "1f1b") == (2, 4)
    assert cut_layers(stages, 6, "gpipe") is None


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=5, max_size=5), min_size=1, max_size=3),
    st.integers(1, 20),
    st.lists(st.integers(1, 6), min_size=3, max_size=3),
)
def test_a_cut_is_the_best_of_all(rows: list[list[int]], count: int, memory: list[int]) -> None:
    stages = [layers(row, memory=held) for row, held in zip(rows, memory, strict=False)]
    held = [num_in_flight(place, len(stages), count, "1f1b") for place in range(len(stages))]
    allowed = [
        (*inner, 5)
        for inner in combinations(range(1, 5), len(stages) - 1)
        if fits(stages, (*inner, 5), held)
    ]
    found = cut_layers(stages, count, "1f1b")
    if not allowed:
        assert found is None
        return
    assert found in allowed
    assert _seconds(stages, found, count) == min(_seconds(stages, cut, count) for cut in allowed)


def _seconds(stages: list[LayerCosts], ends: tuple[int, ...] | None, count: int) -> float:
    assert ends is not None
    firsts = (0, *ends[:-1])
    times = [
        StageTimes(*costs.seconds(first, end))
        for costs, first, end in zip(stages, firsts, ends, strict=True)
    ]
    return estimated_seconds(times, count)
