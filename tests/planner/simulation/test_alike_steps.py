"""The closed form is the sum, and finds what fits into a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.simulation.alike_steps import duration, steps_within

FIRST, HALF = st.floats(0.01, 10.0), st.one_of(st.just(0.0), st.floats(1e-6, 0.5))


@given(FIRST, HALF, st.integers(0, 50))
def test_it_is_the_sum_of_the_steps(first: float, half: float, count: int) -> None:
    one_by_one = sum(first + 2 * half * number for number in range(count))
    assert duration(first, half, count) == pytest.approx(one_by_one)


@given(FIRST, HALF, st.integers(0, 50), st.floats(0.0, 600.0))
def test_as_many_are_over_as_fit(first: float, half: float, most: int, elapsed: float) -> None:
    count = steps_within(first, half, most, elapsed)
    assert 0 <= count <= most
    assert duration(first, half, count) <= elapsed
    assert count == most or duration(first, half, count + 1) > elapsed


def test_nothing_is_over_before_it_began() -> None:
    assert steps_within(1.0, 0.1, 5, -3.0) == 0
