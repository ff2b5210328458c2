import math

import numpy as np
import pytest

from banyan.engine.workbench.conformance.checks import compare, difference, must_refuse
from banyan.foundation.errors import InputError

NAN, INFINITE = math.nan, math.inf


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.5, 0.25], [0.5, 0.125], 0.125),
        ([100.0, 9.0], [100.0, 10.0], 0.01),
        ([NAN, INFINITE], [NAN, INFINITE], 0.0),
        ([NAN], [1.0], INFINITE),
        ([1.0], [NAN], INFINITE),
        ([INFINITE], [-INFINITE], INFINITE),
        ([INFINITE, 1.0], [INFINITE, 3.0], 2.0 / 3.0),
        ([1.0], [1.0, 2.0], INFINITE),
        ([], [], 0.0),
    ],
)
def test_a_difference_is_relative_to_large_results_and_absolute_for_small_ones(
    found: list[float], wanted: list[float], expected: float
) -> None:
    assert difference(np.array(found), np.array(wanted)) == pytest.approx(expected)


def test_a_failed_comparison_says_where_and_how_far() -> None:
    found, wanted = np.array([[1.0, 2.0], [3.0, 4.5]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    check = compare("operators", "add", found, wanted, tolerance=1e-4)
    assert not check.passed
    assert check.found == (
        "differs by 1.25e-01, 1e-04 is allowed; at [1, 1] the device has 4.5, the interpreter 4"
    )


def test_whole_numbers_must_be_equal_whatever_the_tolerance() -> None:
    found, wanted = np.array([1, 2]), np.array([1, 3])
    assert not compare("operators", "add", found, wanted, tolerance=10.0).passed
    assert compare("operators", "add", wanted, wanted, tolerance=0.0).passed


def test_another_shape_is_told_with_both_shapes() -> None:
    check = compare("models", "linear", np.zeros((2, 3)), np.zeros((3, 2)), tolerance=1.0)
    assert check.found == "has shape [2, 3], the interpreter's has [3, 2]"


def test_a_refusal_is_one_of_our_errors_and_nothing_else() -> None:
    def refuse() -> None:
        raise InputError("65 bytes are beyond the 64 of the buffer")

    def crash() -> None:
        raise ZeroDivisionError("division by zero\nsecond line")

    assert must_refuse("limits", "copy", (InputError,), refuse).passed
    crashed = must_refuse("limits", "copy", (InputError,), crash)
    assert (crashed.passed, crashed.found) == (
        False,
        "failed with ZeroDivisionError: division by zero",
    )
    done = must_refuse("limits", "copy", (InputError,), lambda: None)
    assert (done.passed, done.found) == (False, "was done; it must be refused")
