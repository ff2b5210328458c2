from collections.abc import Iterator

import pytest

from banyan.engine.workbench.measuring.stopwatch import Stopwatch


def clock_of(durations: list[float]) -> tuple[Stopwatch, list[int]]:
    """A stopwatch whose runs take these seconds, and the numbers of the runs."""

    def times() -> Iterator[float]:
        now = 0.0
        for duration in durations:
            yield now
            now += duration
            yield now

    ticks = times()
    return Stopwatch(seconds=1.0, rounds=5, clock=lambda: next(ticks)), []


def test_the_first_run_is_thrown_away_and_the_median_of_the_others_counts() -> None:
    watch, seen = clock_of([0.5, 0.1, 0.125, 0.1, 0.1, 0.1])
    assert watch.median(seen.append) == pytest.approx(0.1)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_run_that_fills_the_limit_is_the_only_one() -> None:
    watch, seen = clock_of([2.0])
    assert watch.median(seen.append) == 2.0
    assert seen == [0]


def test_runs_end_when_the_time_is_up() -> None:
    watch, seen = clock_of([0.4, 0.35, 0.45, 0.2])
    assert watch.median(seen.append) == pytest.approx(0.4)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("measured", "size", "expected"),
    [
        ([], 1e9, False),
        ([(1, 0.5)], 8, False),
        ([(1, 0.5)], 9, True),
        ([(1, 9.0), (16, 0.5)], 64, False),
        ([(4, 5.0)], 1, True),
    ],
)
def test_what_would_take_four_times_the_limit_is_left_out(
    measured: list[tuple[float, float]], size: float, expected: bool
) -> None:
    assert Stopwatch(seconds=1.0, rounds=5).grows_too_long(measured, size) is expected
