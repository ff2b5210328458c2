"""When to sleep and when to look: literal waits, and what holds for any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.distributed.usual_wait import UsualWait, UsualWaits, WaitPlan
from banyan.foundation.errors import InputError

LOOK = 200e-6


def after(*waits: float) -> UsualWait:
    usual = UsualWait(LOOK)
    for seconds in waits:
        usual.came(seconds)
    return usual


def test_who_knows_nothing_sleeps() -> None:
    assert UsualWait(LOOK).plan() == WaitPlan(0.0, 0.0)


def test_what_comes_within_moments_is_looked_for_at_once() -> None:
    assert after(50e-6, 60e-6, 40e-6).plan() == WaitPlan(0.0, LOOK)


def test_what_comes_regularly_is_looked_for_from_shortly_before() -> None:
    plan = after(*[0.004] * 30).plan()
    # 100 us for waking up late, 100 us before and after.
    assert plan.sleep_seconds == pytest.approx(0.0038, abs=2e-6)
    assert plan.look_until_seconds == pytest.approx(0.0041, abs=2e-6)


def test_a_core_that_wakes_up_later_is_woken_earlier() -> None:
    usual = after(*[0.004] * 30)
    for _ in range(30):
        usual.overslept(0.0003)
    assert usual.plan().sleep_seconds == pytest.approx(0.0036, abs=2e-6)


def test_what_comes_irregularly_is_slept_for() -> None:
    assert after(*[0.001, 0.02] * 10).plan() == WaitPlan(0.0, 0.0)


def test_one_long_wait_does_not_hide_the_usual_one_for_long() -> None:
    usual = after(*[0.004] * 30, 0.15, *[0.004] * 12)
    assert 0.003 < usual.plan().sleep_seconds < 0.004


def test_a_pause_before_the_first_message_says_nothing() -> None:
    assert after(3.0, *[50e-6] * 3).plan() == WaitPlan(0.0, LOOK)


def test_looking_can_be_turned_off() -> None:
    usual = UsualWait(0.0)
    for _ in range(9):
        usual.came(0.0)
    assert usual.plan() == WaitPlan(0.0, 0.0)
    with pytest.raises(InputError, match="-1"):
        UsualWait(-1)


@given(
    st.lists(st.floats(0, 100), max_size=40),
    st.lists(st.floats(-1, 10), max_size=10),
)
def test_looking_takes_a_millisecond_at_most(waits: list[float], late: list[float]) -> None:
    usual = after(*waits)
    for seconds in late:
        usual.overslept(seconds)
    plan = usual.plan()
    assert plan.sleep_seconds >= 0
    assert plan.look_until_seconds - plan.sleep_seconds <= 5 * LOOK
    assert plan.sleep_seconds <= 0.2


def test_each_wait_of_a_step_is_known_for_itself() -> None:
    waits = UsualWaits(LOOK)
    for _ in range(30):
        waits.after("values").came(0.004)
        waits.after("arguments").came(20e-6)
    assert waits.after("arguments").plan().sleep_seconds == 0.0
    assert waits.after("values").plan().sleep_seconds > 0.003
    assert waits.after("else").plan() == WaitPlan(0.0, 0.0)
    for number in range(500):
        waits.after(str(number))
    assert len(waits._known) <= 64
