"""Requests go to replicas by their speed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.simulation.routing import ROUTINGS, Router, Routing


@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_replica_of_twice_the_speed_gets_twice_as_many(routing: Routing) -> None:
    router = Router([1.0, 2.0], routing)
    chosen = [router.choose() for _ in range(30)]
    assert chosen.count(1) == pytest.approx(20, abs=1)


def test_the_least_loaded_is_the_one_that_finished() -> None:
    router = Router([1.0, 1.0, 1.0], "least_loaded")
    for _ in range(6):
        router.choose()
    router.finish(1, 2)
    assert [router.choose() for _ in range(2)] == [1, 1]


def test_in_turns_it_does_not_matter_who_finished() -> None:
    router = Router([1.0, 1.0, 1.0], "round_robin")
    first = [router.choose() for _ in range(3)]
    router.finish(1)
    assert [router.choose() for _ in range(3)] == first


@pytest.mark.parametrize("routing", ROUTINGS)
def test_a_closed_replica_gets_nothing_and_an_opened_one_no_flood(routing: Routing) -> None:
    router = Router([1.0, 1.0], routing)
    router.close(0)
    assert {router.choose() for _ in range(50)} == {1}
    router.finish(1, 50)
    router.open(0)
    chosen = [router.choose() for _ in range(20)]
    assert chosen.count(0) == pytest.approx(10, abs=1)
    router.close(0)
    router.close(1)
    assert router.choose() is None


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), max_size=60),
)
def test_the_chosen_is_always_the_least_loaded(speeds: list[float], moves: list[int]) -> None:
    router, counts = Router(speeds, "least_loaded"), [0] * len(speeds)
    for move in moves:
        index = move % len(speeds)
        if move % 2 and counts[index]:
            counts[index] -= 1
            router.finish(index)
            continue
        least = min((count + 1) / speed for count, speed in zip(counts, speeds, strict=True))
        chosen = router.choose()
        assert chosen is not None
        assert (counts[chosen] + 1) / speeds[chosen] == pytest.approx(least)
        counts[chosen] += 1
