"""Steps pass through places one after the other."""

import pytest

from banyan.planner.simulation.places import Places
from banyan.planner.simulation.stage_costs import RoundTime


def test_a_step_waits_at_each_place_for_the_one_before_it() -> None:
    places = Places((0, 1))
    assert places.take(0.0, (2.0, 3.0, 0.0)) == 5.0
    assert places.take(0.0, (2.0, 3.0, 0.0)) == 8.0
    assert places.free == [4.0, 8.0]
    assert places.take(20.0, (2.0, 3.0, 0.0)) == 25.0


def test_the_way_between_places_keeps_none_of_them_busy() -> None:
    places = Places((0, 1))
    assert places.take(0.0, (2.0, 2.0, 0.5)) == 5.0
    assert places.free == [2.0, 4.5]


def test_no_step_ends_before_an_older_one() -> None:
    places = Places((0, 1))
    assert places.take(0.0, (1.0, 1.0, 4.0)) == 10.0
    assert places.take(0.0, (1.0, 1.0, 0.0)) == 10.0


def test_parts_of_one_place_follow_each_other() -> None:
    places = Places((0, 1, 0))
    step = RoundTime(10.0, (0.2, 0.3, 0.1))
    assert places.spans(step) == pytest.approx((3.0, 3.0, 2.0))


def test_without_parts_all_is_at_one_place() -> None:
    assert Places(()).spans(RoundTime(4.0, ())) == (4.0, 0.0)


def test_a_copy_goes_its_own_way() -> None:
    places = Places((0,))
    other = places.copy()
    other.take(0.0, (1.0, 0.0))
    other.shift(5.0)
    assert (places.free, places.last_end) == ([0.0], 0.0)
    assert (other.free, other.last_end) == ([6.0], 6.0)
