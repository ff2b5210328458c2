"""The speed of the line and the time to come back."""

import pytest

from banyan.engine.scheduling.expected_wait import LineSpeed, retry_after_seconds


def test_nothing_is_promised_before_anything_was_seen() -> None:
    assert LineSpeed().seconds_for(1000) == 0.0


def test_tokens_take_as_long_as_those_before_them() -> None:
    speed = LineSpeed()
    for _ in range(10):
        speed.observe(100, 0.5)
    assert speed.seconds_for(400) == pytest.approx(2.0)


def test_a_standstill_makes_the_wait_longer_and_newer_times_count_more() -> None:
    speed = LineSpeed()
    for _ in range(20):
        speed.observe(100, 0.5)
    before = speed.seconds_for(100)
    speed.observe(0, 5.0)
    assert speed.seconds_for(100) > 1.3 * before
    for _ in range(100):
        speed.observe(200, 0.5)
    assert speed.seconds_for(100) == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize(
    ("wait", "goal", "seconds"),
    [(0.0, None, 1), (2.2, None, 3), (5.0, 2.0, 3), (1.0, 2.0, 1), (1e9, None, 600)],
)
def test_come_back_when_the_line_is_short_enough(
    wait: float, goal: float | None, seconds: int
) -> None:
    assert retry_after_seconds(wait, goal) == seconds
