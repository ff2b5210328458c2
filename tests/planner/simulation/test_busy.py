"""Spans of work are counted where they lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.simulation.busy import BusyMeter


def test_work_across_spans_is_shared_between_them() -> None:
    meter = BusyMeter(10.0)
    meter.note(8.0, 32.0, (1.0, 0.25))
    assert list(meter.busy) == [2.0, 10.0, 10.0, 2.0]
    assert meter.part_busy == [24.0, 6.0]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 40)), max_size=20))
def test_no_second_is_lost(spans: list[tuple[float, float]]) -> None:
    meter = BusyMeter(7.0)
    for start, seconds in spans:
        meter.note(start, start + seconds, ())
    assert sum(meter.busy) == pytest.approx(sum(seconds for _, seconds in spans), abs=1e-6)
    assert meter.part_busy == []
