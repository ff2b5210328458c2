"""Looking lasts about as long as messages usually take, and never much longer."""

from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.stages.look_times import LookTimes

MOST_SECONDS = 0.06
WAITS = st.lists(st.floats(0, 10), max_size=30)


def after(*waits: float) -> float:
    known = LookTimes()
    for seconds in waits:
        known.came("a values", seconds)
    return known.of("a values").look_until_seconds


def test_who_knows_nothing_sleeps() -> None:
    assert after() == 0.0


def test_regular_messages_are_looked_for_until_they_are_late() -> None:
    assert 0.01 < after(*[0.01] * 8) < 0.03


def test_the_larger_part_of_a_usual_wait_is_slept_through_in_whole_milliseconds() -> None:
    known = LookTimes()
    for last, seconds in (("step", 0.01), ("values", 0.001)):
        known.came(last, seconds)
    assert [known.of(last).sleep_milliseconds for last in ("step", "values")] == [7, 0]


def test_messages_that_come_at_once_are_looked_for_a_moment() -> None:
    assert after(0.0, 0.0) == 200e-6


def test_long_waits_are_slept_through() -> None:
    assert after(0.05) == 0.0


def test_one_pause_between_requests_is_no_usual_wait() -> None:
    assert 0.0 < after(*[0.005] * 8, 60.0) < 0.02


def test_many_pauses_are() -> None:
    assert after(0.005, *[1.0] * 20) == 0.0


def test_each_wait_is_learned_apart_and_only_so_many_of_them() -> None:
    known = LookTimes()
    known.came("a values", 0.01)
    assert known.of("a step") == (0, 0.0)
    for number in range(1000):
        known.came(f"{number}", 0.01)
    assert known.of("a values") == (0, 0.0)


@given(WAITS)
def test_nobody_looks_for_longer_than_a_short_step_or_two(waits: list[float]) -> None:
    assert 0.0 <= after(*waits) <= MOST_SECONDS


@given(WAITS, st.floats(0.001, 0.025))
def test_regular_messages_are_looked_for_again_whatever_was_before(
    waits: list[float], seconds: float
) -> None:
    assert after(*waits, *[seconds] * 60) >= seconds
