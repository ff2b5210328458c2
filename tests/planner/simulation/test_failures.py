"""What goes wrong in a simulation, read and drawn."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.simulation.failures import Failure, parse_failures, random_failures


def test_failures_are_read_in_the_order_of_their_times() -> None:
    found = parse_failures(
        '{"at": 9, "device": "b", "kind": "slow", "seconds": 5, "factor": 3}\n'
        '{"at": 1.5, "device": "a"}\n'
    )
    assert found == (
        Failure(at=1.5, device="a", kind="stop", seconds=math.inf),
        Failure(at=9, device="b", kind="slow", seconds=5, factor=3),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "line 1 of the failures is no JSON"),
        ("[]", "needs at and device"),
        ('{"at": 1}', "needs at and device"),
        ('{"at": 1, "device": "a", "when": 2}', "nothing else"),
        ('{"at": 1, "device": 3}', "device is 3"),
        ('{"at": 1, "device": "a", "kind": "explode"}', "kind 'explode'; write"),
        ('{"at": -1, "device": "a"}', "at is -1; write a number"),
        ('{"at": NaN, "device": "a"}', "at is nan"),
        ('{"at": Infinity, "device": "a"}', "at is infinite"),
        ('{"at": true, "device": "a"}', "at is True"),
        ('{"at": 1, "device": "a", "kind": "slow", "factor": 0}', "factor is 0"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_failures(text)


@given(st.text(max_size=60))
def test_any_text_is_failures_or_a_clear_error(text: str) -> None:
    try:
        parse_failures(text)
    except InputError as error:
        assert "failures" in str(error)  # noqa: PT017  (most texts are no failures)


def test_random_failures_come_as_often_as_they_should() -> None:
    names = [f"d{n}" for n in range(1000)]
    found = random_failures(
        names, seconds=3600, mean_seconds_between=36_000, repair_seconds=60, seed=1
    )
    assert len(found) == pytest.approx(100, rel=0.3)
    assert [failure.at for failure in found] == sorted(failure.at for failure in found)
    assert {failure.seconds for failure in found} == {60}
    again = random_failures(
        names, seconds=3600, mean_seconds_between=36_000, repair_seconds=60, seed=1
    )
    assert again == found
