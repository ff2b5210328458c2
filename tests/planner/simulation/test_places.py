"""Steps pass through places one after the other."""

import pytest

from banyan.planner.simulation.places import Journey, Places
from banyan.planner.simulation.stage_costs import RoundTime


def _journey(*seconds: float, way: float = 0.0, crowding: float = 1.0) -> Journey:
    return Journey(seconds, tuple(crowding * one for one in seconds), way)


def _ends(places: Places, *journeys: Journey) -> list[float]:
    ends = []
    for journey in journeys:
        places.begin(journey)
    for _ in journeys:
        places.finish()
        ends.append(places.now)
    return ends


def test_a_step_waits_at_each_place_for_the_one_before_it() -> None:
    assert _ends(Places((0, 1)), _journey(2.0, 3.0), _journey(2.0, 3.0)) == [5.0, 8.0]
    assert _ends(Places((0, 1)), _journey(3.0, 2.0), _journey(3.0, 2.0)) == [5.0, 8.0]


def test_a_step_that_begins_later_finds_what_is_left_of_the_others() -> None:
    places = Places((0, 1))
    assert _ends(places, _journey(2.0, 3.0)) == [5.0]
    places.begin(_journey(4.0, 1.0))
    places.begin(_journey(1.0, 1.0))
    places.finish()
    assert places.now == 10.0
    assert _ends(places, _journey(2.0, 2.0)) == [11.0]
    places.finish()
    assert places.now == 14.0


def test_the_way_between_places_keeps_none_of_them_busy() -> None:
    places = Places((0, 1))
    assert _ends(places, _journey(2.0, 2.0, way=0.5), _journey(2.0, 2.0, way=0.5)) == [5.0, 7.0]


def test_no_step_ends_before_an_older_one() -> None:
    ends = _ends(Places((0, 1)), _journey(1.0, 1.0, way=4.0), _journey(1.0, 1.0))
    assert ends == [10.0, 10.0]


def test_places_that_are_busy_together_are_slower() -> None:
    # Alone for 2 s; both places for 4 s; alone for 2 s.
    places = Places((0, 1))
    pair = [_journey(2.0, 2.0, crowding=2.0)] * 2
    assert _ends(places, *pair) == [6.0, 8.0]


def test_it_counts_how_long_each_place_computed() -> None:
    places = Places((0, 1))
    places.begin(_journey(2.0, 2.0, way=1.0, crowding=2.0))
    places.begin(_journey(2.0, 2.0, way=1.0, crowding=2.0))
    # The second begins at 2 and is alone until 3.
    assert places.finish() == pytest.approx([2.0, 3.0])
    assert places.now == 7.0
    assert places.finish() == pytest.approx([3.0, 2.0])


def test_parts_of_one_place_follow_each_other() -> None:
    places = Places((0, 1, 0))
    journey = places.journey(RoundTime(10.0, (0.2, 0.3, 0.1)), RoundTime(20.0, (0.2, 0.3, 0.1)))
    assert journey.alone == pytest.approx((3.0, 3.0))
    assert journey.together == pytest.approx((6.0, 6.0))
    assert journey.way == pytest.approx(2.0)


def test_without_parts_all_is_at_one_place() -> None:
    step = RoundTime(4.0, ())
    assert Places(()).journey(step, step) == Journey((4.0,), (4.0,), 0.0)


def test_a_copy_goes_its_own_way() -> None:
    places = Places((0,))
    places.begin(_journey(2.0))
    other = places.copy()
    assert _ends(other, _journey(3.0)) == [2.0]
    assert places.now == 0.0
    places.finish()
    assert places.now == 2.0
