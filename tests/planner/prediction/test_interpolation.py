import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.prediction.interpolation import interpolated


def test_a_measured_point_gives_its_own_value() -> None:
    points = [((1.0, 8.0), 3.0), ((1.0, 16.0), 5.0), ((4.0, 8.0), 7.0)]
    assert [interpolated(points, at) for at, _ in points] == pytest.approx([3.0, 5.0, 7.0])


def test_powers_are_followed_between_points() -> None:
    points = [((2.0,), 4.0), ((8.0,), 64.0)]
    assert interpolated(points, (4.0,)) == pytest.approx(16.0)


def test_beyond_the_outermost_point_the_value_stays() -> None:
    points = [((2.0,), 4.0), ((8.0,), 64.0)]
    assert interpolated(points, (1.0,)) == pytest.approx(4.0)
    assert interpolated(points, (100.0,)) == pytest.approx(64.0)


def test_points_need_not_be_a_grid() -> None:
    points = [((1.0, 2.0), 10.0), ((4.0, 1.0), 10.0), ((4.0, 4.0), 1000.0)]
    assert interpolated(points, (2.0, 2.0)) == pytest.approx(math.sqrt(10.0 * 100.0))


def test_no_point_is_an_error() -> None:
    with pytest.raises(InputError, match="measure the device"):
        interpolated([], (1.0,))


_POSITIVE = st.floats(0.01, 1e6)


@given(
    st.dictionaries(st.tuples(_POSITIVE, _POSITIVE), _POSITIVE, min_size=1, max_size=8),
    st.tuples(_POSITIVE, _POSITIVE),
)
def test_what_lies_between_is_no_more_and_no_less_than_what_was_measured(
    points: dict[tuple[float, float], float], at: tuple[float, float]
) -> None:
    found = interpolated(points.items(), at)
    assert min(points.values()) * 0.999 <= found <= max(points.values()) * 1.001
