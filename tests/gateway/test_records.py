import pytest

from banyan.engine.events import TokenEvent
from banyan.engine.sampling import SamplingOptions
from banyan.gateway.records import RequestRecord


def event(index: int, num_generated: int, *, queued: float = 0.5) -> TokenEvent:
    return TokenEvent(
        request_id="r",
        index=index,
        token_ids=(1,),
        text="",
        logprobs=None,
        finish_reason=None,
        num_prompt_tokens=3,
        num_generated_tokens=num_generated,
        queued_seconds=queued,
    )


def test_the_time_of_a_prompt_is_divided_between_queue_prefill_and_decode() -> None:
    record = RequestRecord(SamplingOptions(n=2), arrived=10.0, num_prompt_tokens=3)
    assert record.times() is None
    for index, count, now in ((0, 1, 12.0), (1, 1, 12.5), (0, 2, 13.0), (1, 2, 14.0)):
        record.take(event(index, count), now=now)
    times = record.times()
    assert times is not None
    assert (times.end_to_end, times.first_token, times.queued) == (4.0, 2.0, 0.5)
    assert (times.prefill, times.decode) == (1.5, 2.0)
    assert record.answers[1].gap == pytest.approx(1.5)


def test_a_clock_that_says_more_of_the_queue_than_of_the_whole_gives_no_negative_time() -> None:
    record = RequestRecord(SamplingOptions(), arrived=10.0, num_prompt_tokens=3)
    record.take(event(0, 1, queued=2.0), now=11.0)
    times = record.times()
    assert times is not None
    assert times.prefill == 0.0
