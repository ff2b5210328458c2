import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from banyan.planner.serving.cases import Mode, Problem
from banyan.planner.serving.pipelines import choose_pipelines, work_bound


def problem(rates: list[list[float]], limits: list[int], num_layers: int) -> Problem:
    table = np.zeros((len(rates), num_layers))
    for kind, row in enumerate(rates):
        table[kind, : len(row)] = row[:num_layers]
    return Problem(
        num_layers=num_layers,
        uses=np.eye(len(rates), dtype=np.int64),
        limits=np.array(limits),
        modes=(Mode((), (table,), 99),),
    )


def best_by_trying(rates: list[list[float]], limits: list[int], num_layers: int) -> float:
    """Every way to divide the devices into pipelines, by recursion over what is left."""
    single: dict[tuple[int, ...], float] = {}
    for counts in itertools.product(*(range(limit + 1) for limit in limits)):
        wanted = sorted({rate for row in rates for rate in row}, reverse=True)
        for rate in wanted:
            held = [sum(each >= rate for each in row[:num_layers]) for row in rates]
            if sum(a * b for a, b in zip(counts, held, strict=True)) >= num_layers:
                single[counts] = rate
                break
    best: dict[tuple[int, ...], float] = {}

    def most(left: tuple[int, ...]) -> float:
        if left not in best:
            best[left] = 0.0
            for counts, rate in single.items():
                after = tuple(a - b for a, b in zip(left, counts, strict=True))
                if min(after) >= 0:
                    best[left] = max(best[left], rate + most(after))
        return best[left]

    return most(tuple(limits))


def test_slow_and_fast_nodes_share_the_layers_of_one_pipeline() -> None:
    # Two fast ones with three layers each and two slow ones with one: eight layers at 10.
    chosen = choose_pipelines(problem([[30.0, 15.0, 10.0], [10.0, 4.0]], [2, 2], 8))
    assert chosen.tokens_per_second == 10.0
    assert chosen.upper_bound == pytest.approx(10.0)


def test_devices_that_hold_everything_work_alone() -> None:
    chosen = choose_pipelines(problem([[9.0, 8.0]], [5], 2))
    assert chosen.tokens_per_second == 40.0
    ((column, count),) = chosen.columns
    assert (column.rate, count) == (8.0, 5)


RATES = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(
    lambda values: [float(value) for value in sorted(values, reverse=True)]
)


@settings(max_examples=25, deadline=None)
@given(st.lists(RATES, min_size=1, max_size=2), st.integers(1, 3), st.integers(1, 5))
@example([[1.0], [1.0]], 3, 2)
@example([[3.0, 3.0], [4.0, 4.0, 4.0]], 3, 5)
def test_the_bound_lies_above_and_the_plan_is_at_least_half_the_best(
    rates: list[list[float]], count: int, num_layers: int
) -> None:
    limits = [count] * len(rates)
    chosen = choose_pipelines(problem(rates, limits, num_layers))
    best = best_by_trying(rates, limits, num_layers)
    assert chosen.upper_bound is not None
    assert chosen.tokens_per_second <= best + 1e-9
    assert chosen.upper_bound >= best - 1e-6
    # Whole numbers of the columns found: usually the best, 7 of 9 in the second example.
    assert chosen.tokens_per_second >= 0.5 * best


def test_work_that_a_device_cannot_do_bounds_every_flow() -> None:
    # A node with 3 layers at 10 computes 30 layers a second; 6 layers at F need 6 F.
    assert work_bound(problem([[10.0, 10.0, 10.0]], [2], 6)) == pytest.approx(10.0)
    assert work_bound(problem([[10.0, 10.0, 10.0]], [1], 6)) == pytest.approx(0.0)


def test_nothing_is_chosen_where_nothing_covers_all_layers() -> None:
    chosen = choose_pipelines(problem([[5.0]], [2], 3))
    assert chosen.columns == ()
    assert chosen.tokens_per_second == 0.0


def test_prompts_apart_need_their_own_groups() -> None:
    answers, prompts = np.array([[6.0, 4.0]]), np.array([[9.0, 5.0]])
    both = Problem(2, np.eye(1, dtype=np.int64), np.array([2]), (Mode((), (answers, prompts), 9),))
    chosen = choose_pipelines(both)
    assert chosen.tokens_per_second == 4.0
    ((column, _),) = chosen.columns
    assert column.passes == (((0, 2, 1),), ((0, 2, 1),))
