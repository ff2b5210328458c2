"""Slices of the drills; `python -m benchmarks.drills` has a hundred events."""

import asyncio

import pytest

from benchmarks.drills import SEEDLING, drill_server, told_difference

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize(
    ("num_events", "seed"), [(1, 1), pytest.param(8, 2, marks=pytest.mark.wide)]
)
def test_no_token_is_lost_repeated_or_changed_when_a_part_of_a_plan_dies(
    num_events: int, seed: int
) -> None:
    drill, events = asyncio.run(
        drill_server(str(SEEDLING), num_events=num_events, clients=6, seed=seed)
    )
    assert not drill.failures
    assert drill.whole >= 6
    assert sum(event.kind != "return" for event in events) == num_events
    # Answers may end before the far worker is back; faults are too quick for that.
    assert all(event.pauses for event in events if event.kind != "return")


def test_a_difference_is_told_by_its_place() -> None:
    assert told_difference("abc", "abcd") == "tokens lost at the end"
    assert told_difference("abxd", "abcd") == "another text than alone, from character 2"
