import numpy as np
import pytest

from banyan.planner.linear_program import maximise

USAGE = np.array([[2.0, 1.0], [1.0, 3.0]])
LIMITS = np.array([4.0, 6.0])


def test_prices_say_what_one_more_of_a_limit_is_worth() -> None:
    found = maximise(np.array([3.0, 4.0]), USAGE, LIMITS)
    assert found is not None
    assert found.amounts == pytest.approx([1.2, 1.6])
    assert found.prices @ LIMITS == pytest.approx(found.objective)


def test_whole_numbers_are_whole() -> None:
    found = maximise(np.array([3.0, 4.0]), USAGE, LIMITS, integer=True)
    assert found is not None
    assert list(found.amounts) == [0.0, 2.0]
    assert found.objective == 8.0


def test_floors_that_no_amounts_reach_have_no_answer() -> None:
    floors = np.array([5.0, 0.0])
    assert maximise(np.ones(2), USAGE, LIMITS, floors=floors) is None


def test_no_columns_are_worth_nothing() -> None:
    found = maximise(np.zeros(0), np.zeros((0, 2)), LIMITS)
    assert found is not None
    assert found.objective == 0.0
