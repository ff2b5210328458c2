"""Requests for the simulator, read and drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.foundation.errors import InputError
from banyan.planner.simulation.trace import MIXES, Lengths, made_trace, parse_trace


def test_json_lines_are_read_and_put_in_order() -> None:
    trace = parse_trace(
        '{"arrival": 2.5, "prompt_tokens": 10, "answer_tokens": 3}\n\n'
        '{"arrival": 1, "prompt_tokens": 20, "answer_tokens": 4, "user": "x"}\n'
    )
    assert trace.arrival.tolist() == [1.0, 2.5]
    assert trace.prompt.tolist() == [20, 10]
    assert trace.answer.tolist() == [4, 3]
    assert trace.seconds == 2.5


def test_a_trace_of_azure_begins_with_its_first_request() -> None:
    trace = parse_trace(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:17:04.0319600,3180,8\n"
    )
    assert trace.arrival.tolist() == pytest.approx([0.0, 0.052])
    assert trace.prompt.tolist() == [4808, 3180]


def test_times_with_a_zone_are_read() -> None:
    trace = parse_trace(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,2162,5\n"
        "2024-05-10 00:00:01+00:00,2399,6\n"
    )
    assert trace.arrival.tolist() == pytest.approx([0.0, 0.99007])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no requests"),
        ("arrival,prompt_tokens,answer_tokens\n", "no requests"),
        ("arrival,prompt_tokens\n1,2\n", "line 2 of the trace has no answer_tokens"),
        ("arrival,prompt_tokens,answer_tokens\n1,2\n", "line 2 of the trace has 2 fields"),
        ("arrival,prompt_tokens,answer_tokens\n1,0,3\n", "prompt_tokens is '0'; write a whole"),
        ("arrival,prompt_tokens,answer_tokens\n1,2.5,3\n", "write a whole number"),
        ("arrival,prompt_tokens,answer_tokens\n-1,2,3\n", "arrival is '-1'; write seconds"),
        ("arrival,prompt_tokens,answer_tokens\nnan,2,3\n", "write seconds"),
        ("arrival,prompt_tokens,answer_tokens\n1,1e40,3\n", "write a whole number"),
        ("arrival,prompt_tokens,answer_tokens\nx,2,3\n", "arrival is 'x'; write a number"),
        ('{"arrival": 1', "line 1 of the trace is no JSON"),
        ('{"arrival": true, "prompt_tokens": 1, "answer_tokens": 1}', "write a number"),
        ('{"arrival": 1, "prompt_tokens": [], "answer_tokens": 1}', "write a number"),
        ('{"arrival": 1, "prompt_tokens": 1, "answer_tokens": 1}\n[]', "no JSON object"),
        (
            "timestamp,prompt_tokens,answer_tokens\n2023-11-16 18:17:03,1,1\n5,1,1\n",
            "all of one kind",
        ),
        (
            "timestamp,prompt_tokens,answer_tokens\n2023-11-16 18:17:03,1,1\n"
            "2023-11-16 18:17:03+00:00,1,1\n",
            "with and without a time zone",
        ),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_trace(text)


@given(st.text(max_size=60) | st.text('{}[],:"0123456789arivlpomt_enks\n', max_size=80))
def test_any_text_is_a_trace_or_a_clear_error(text: str) -> None:
    try:
        trace = parse_trace(text)
    except InputError as error:
        assert "trace" in str(error)  # noqa: PT017  (most texts are no trace)
    else:
        assert len(trace) > 0


def test_made_requests_come_at_their_rate_and_have_their_lengths() -> None:
    trace = made_trace(100, 100, MIXES["chat"], seed=3)
    assert len(trace) == pytest.approx(10_000, rel=0.05)
    assert (np.diff(trace.arrival) >= 0).all()
    assert np.median(trace.prompt) == pytest.approx(220, rel=0.1)
    assert trace.prompt.max() <= 8192
    assert trace.answer.min() >= 1
    gaps = np.diff(trace.arrival)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)


def test_a_seed_makes_the_same_requests_again() -> None:
    one, other = (made_trace(10, 10, MIXES["code"], seed=5) for _ in range(2))
    assert one.arrival.tobytes() == other.arrival.tobytes()
    assert one.prompt.tobytes() == other.prompt.tobytes()
    assert made_trace(10, 10, MIXES["code"], seed=6).arrival.tobytes() != one.arrival.tobytes()


def test_without_a_spread_all_are_alike() -> None:
    trace = made_trace(10, 10, Lengths(prompt=7, answer=3), seed=0)
    assert set(trace.prompt.tolist()) == {7}
    assert set(trace.answer.tolist()) == {3}


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="a rate of 0"):
        made_trace(0, 10, MIXES["chat"], seed=0)
