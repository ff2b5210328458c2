"""The judge of the flood, and a slice of it; `python -m benchmarks.overload` runs a minute."""

import asyncio
from collections import Counter

import pytest

from banyan.cli.load.outcome import Outcome, summarise
from benchmarks.overload import SEATS, SEEDLING, Overload, flood, limited_server


def whole(first: float) -> Outcome:
    return Outcome(sent=0.0, pieces=(first, first + 1), num_tokens=2)


def refused(problem: str) -> Outcome:
    return Outcome(sent=0.0, problem=problem)


def judged(*outcomes: Outcome, named: int | None = 1) -> list[str]:
    summary = summarise(outcomes, {})
    return Overload(1.0, 10.0, 2000.0, summary, Counter([named])).failures()


def test_answers_within_the_goal_and_refusals_are_as_it_should_be() -> None:
    assert judged(whole(1.9), refused("status 429"), refused("status 503")) == []


@pytest.mark.parametrize(
    ("outcomes", "named", "failure"),
    [
        ([whole(1.0), refused("cut off")], 1, "1 x cut off"),
        ([whole(1.0), refused("status 500")], 1, "1 x status 500"),
        ([whole(2.1)], 1, "p99 of the first token is 2100 ms"),
        ([whole(1.0)], None, "1 refusals named no time to come back"),
        ([refused("status 503")], 1, "nobody was answered"),
    ],
)
def test_everything_else_fails(outcomes: list[Outcome], named: int | None, failure: str) -> None:
    assert judged(*outcomes, named=named) == [failure]


@pytest.mark.wide
@pytest.mark.end_to_end
def test_a_slice_of_the_flood_on_the_shipped_model_refuses_most_and_keeps_the_goal() -> None:
    goal_ms = 8000.0  # the machine that runs the tests has other work
    with limited_server(str(SEEDLING), goal_ms, SEATS) as url:
        found = asyncio.run(flood(url, seconds=10, times=10, goal_ms=goal_ms))
    assert found.failures() == [], list(found.lines())
    assert found.summary.num_whole < found.summary.num_asked / 2
    assert found.retry_after.total() > 0
