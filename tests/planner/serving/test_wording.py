"""Sizes and times in words of people."""

import pytest

from banyan.planner.serving.wording import over_text, seconds_text, size_text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0.0 KiB"),
        (1536, "1.5 KiB"),
        (1.02e6, "996.1 KiB"),
        (2**20, "1.0 MiB"),
        (2**30 - 1, "1.0 GiB"),
        (3.1 * 2**30, "3.1 GiB"),
        (5 * 2**40, "5.0 TiB"),
    ],
)
def test_bytes_have_the_unit_that_a_person_would_take(num_bytes: float, text: str) -> None:
    assert size_text(num_bytes) == text


def test_times_below_a_second_are_milliseconds() -> None:
    assert [seconds_text(s) for s in (0.0412, 0.00012, 1.0, 12.345)] == [
        "41.2 ms",
        "0.12 ms",
        "1.00 s",
        "12.35 s",
    ]
    assert over_text("a token takes", 0.06, 0.05) == (
        "a token takes 60 ms, 10 ms over the goal of 50 ms"
    )
