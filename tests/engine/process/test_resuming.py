"""A request that one engine began and another one ends."""

from dataclasses import replace

import pytest

from banyan.engine.events import TokenEvent
from banyan.engine.fake import fake_engine
from banyan.engine.sampling import SamplingOptions


@pytest.mark.parametrize("taken", [0, 1, 7, 19])
def test_a_request_is_taken_up_behind_any_token_with_the_same_rest(taken: int) -> None:
    options = SamplingOptions(
        max_tokens=20,
        temperature=0.9,
        seed=3,
        repetition_penalty=1.3,
        frequency_penalty=0.5,
        stop=("never",),
        n=2,
        ignore_eos=True,
    )

    def events_of(told: tuple[tuple[int, ...] | None, ...]) -> list[TokenEvent]:
        engine = fake_engine()
        engine.add_request("a", [1, 2, 3], options, told=told)
        events = [event for _ in range(60) if engine.has_work() for event in engine.step()]
        # Read from a real clock: never the same twice.
        return [replace(event, queued_seconds=0.0) for event in events]

    whole = [event for event in events_of(()) if event.index == 1]
    tokens = tuple(token for event in whole for token in event.token_ids)
    rest = events_of((None, tokens[:taken]))
    assert all(event.index == 1 for event in rest)
    assert [event for event in whole if event.num_generated_tokens > taken] == rest
