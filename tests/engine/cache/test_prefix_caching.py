"""Shared prompts through the engine: what is computed once, who finds what, and the same tokens.

The fake model's tokens depend on everything it reads through the block tables, so a wrong block
shows as a wrong token.
"""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.fake import fake_engine
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions

GREEDY = SamplingOptions(temperature=0.0, max_tokens=8)
PROMPT = bytes(range(97, 122)) * 4  # 100 tokens: 6 whole blocks and 4 tokens


def drain(engine: Engine) -> list[TokenEvent]:
    events: list[TokenEvent] = []
    for _ in range(3000):
        if not engine.has_work():
            return events
        events += engine.step()
    raise AssertionError("the engine did not come to an end")


def tokens(events: Iterable[TokenEvent]) -> list[int]:
    return [token_id for event in events for token_id in event.token_ids]


def run(
    engine: Engine, prompt: bytes, context: RequestContext | None = None, name: str = "only"
) -> list[TokenEvent]:
    engine.add_request(name, prompt, GREEDY, context or RequestContext())
    return drain(engine)


def tokens_alone(prompt: bytes, options: SamplingOptions = GREEDY) -> list[int]:
    engine = fake_engine(enable_prefix_caching=False)
    engine.add_request("alone", prompt, options)
    return tokens(drain(engine))


def test_a_prompt_seen_before_is_not_computed_again_but_for_its_last_part_block() -> None:
    engine = fake_engine()
    first = run(engine, PROMPT)
    assert [event.num_cached_tokens for event in first] == [0] * 8
    second = run(engine, PROMPT)
    assert tokens(first) == tokens(second) == tokens_alone(PROMPT)
    assert [event.num_cached_tokens for event in second] == [96] * 8
    statistics = engine.statistics()
    assert statistics.tokens_prefilled == 100 + 4
    assert (statistics.prefix_cache_queries, statistics.prefix_cache_hits) == (200, 96)
    assert statistics.num_free_blocks == 128


def test_the_last_token_is_computed_even_when_all_of_the_prompt_is_known() -> None:
    engine = fake_engine()
    run(engine, PROMPT[:96])
    again = run(engine, PROMPT[:96])
    assert again[0].num_cached_tokens == 80
    assert tokens(again) == tokens_alone(PROMPT[:96])


def test_the_next_turn_of_a_conversation_finds_the_answer_before_it() -> None:
    engine = fake_engine()
    said = tokens(run(engine, PROMPT + b"........"))  # 108 known, 116 with the answer
    next_turn = PROMPT + b"........" + bytes(said) + b" and then?"
    events = run(engine, next_turn)
    assert events[0].num_cached_tokens == 112
    assert tokens(events) == tokens_alone(next_turn)


def test_the_answers_of_one_request_share_its_prompt_which_is_computed_once() -> None:
    engine = fake_engine(token_budget=32)
    options = SamplingOptions(n=4, seed=5, max_tokens=8, ignore_eos=True)
    engine.add_request("many", PROMPT, options)
    most_used = 0
    events: list[TokenEvent] = []
    while engine.has_work():
        events += engine.step()
        statistics = engine.statistics()
        most_used = max(most_used, statistics.num_blocks - statistics.num_free_blocks)
    assert engine.statistics().tokens_prefilled == 100 + 3 * 4
    assert most_used == 6 + 4
    for index in range(4):
        mine = tokens(event for event in events if event.index == index)
        assert len(mine) == 8
    alone = tokens_alone(PROMPT, SamplingOptions(seed=5, max_tokens=8, ignore_eos=True))
    assert tokens(event for event in events if event.index == 0) == alone


def test_equal_prompts_that_come_together_are_computed_once() -> None:
    engine = fake_engine(token_budget=64)
    for number in range(3):
        engine.add_request(str(number), PROMPT, GREEDY)
    events = drain(engine)
    assert engine.statistics().tokens_prefilled == 100 + 2 * 4
    for number in range(3):
        mine = [event for event in events if event.request_id == str(number)]
        assert tokens(mine) == tokens_alone(PROMPT)


def test_one_whose_prompt_is_being_computed_elsewhere_goes_on_when_that_is_cancelled() -> None:
    engine = fake_engine(token_budget=16)
    engine.add_request("first", PROMPT, GREEDY)
    engine.add_request("second", PROMPT, GREEDY)
    engine.step()
    assert engine.statistics().num_waiting == 1
    engine.cancel("first")
    events = [event for event in drain(engine) if event.request_id == "second"]
    assert tokens(events) == tokens_alone(PROMPT)
    assert events[0].num_cached_tokens == 16


def test_waiting_for_a_shared_prompt_does_not_hold_up_a_different_one() -> None:
    engine = fake_engine(token_budget=128)
    engine.add_request("first", PROMPT, GREEDY)
    engine.add_request("same", PROMPT, GREEDY)
    engine.add_request("other", b"something else", GREEDY)
    assert {event.request_id for event in engine.step()} == {"first", "other"}


@pytest.mark.parametrize(
    ("mine", "yours", "is_shared"),
    [
        (RequestContext(), RequestContext(), True),
        (RequestContext(caller="a"), RequestContext(caller="b"), False),
        (RequestContext(caller="a"), RequestContext(), False),
        (RequestContext(cache_salt="s"), RequestContext(cache_salt="t"), False),
        (RequestContext(cache_salt="a"), RequestContext(caller="a"), False),
        (
            RequestContext(caller="a", cache_salt="s"),
            RequestContext(caller="b", cache_salt="s"),
            True,
        ),
        (RequestContext(priority=3, caller="a"), RequestContext(caller="a"), True),
    ],
    ids=str,
)
def test_who_shares_with_whom(mine: RequestContext, yours: RequestContext, is_shared: bool) -> None:
    engine = fake_engine()
    run(engine, PROMPT, mine)
    found = run(engine, PROMPT, yours)[0].num_cached_tokens
    assert found == (96 if is_shared else 0)


def test_nothing_is_shared_when_it_is_switched_off() -> None:
    engine = fake_engine(enable_prefix_caching=False)
    run(engine, PROMPT)
    assert run(engine, PROMPT)[0].num_cached_tokens == 0
    assert engine.statistics().tokens_prefilled == 200


def test_a_preempted_sequence_finds_what_is_left_of_its_own_blocks() -> None:
    def prefilled(*, enable_prefix_caching: bool) -> int:
        engine = fake_engine(
            max_model_len=96, num_blocks=8, enable_prefix_caching=enable_prefix_caching
        )
        options = SamplingOptions(temperature=0.0, max_tokens=60, ignore_eos=True)
        for prompt in (b"first" * 4, b"second" * 4):
            engine.add_request(prompt.decode(), prompt, options)
        events = drain(engine)
        assert engine.statistics().preemptions > 0
        for prompt in (b"first" * 4, b"second" * 4):
            mine = [event for event in events if event.request_id == prompt.decode()]
            assert tokens(mine) == tokens_alone(prompt, options)
            assert mine[0].num_cached_tokens == mine[-1].num_cached_tokens == 0
        return engine.statistics().tokens_prefilled

    assert prefilled(enable_prefix_caching=True) < prefilled(enable_prefix_caching=False)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 5]), min_size=1, max_size=5),
            st.integers(1, 20),
            st.integers(1, 3),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=9,
    ),
    st.integers(7, 24),
    st.integers(5, 64),
    st.sets(st.integers(0, 8)),
)
def test_any_mix_of_shared_prompts_gives_each_the_tokens_it_gets_alone(
    requests: list[tuple[list[bytes], int, int, int]],
    num_blocks: int,
    token_budget: int,
    cancelled: set[int],
) -> None:
    engine = fake_engine(
        max_model_len=104, max_num_seqs=5, num_blocks=num_blocks, token_budget=token_budget
    )
    events: list[TokenEvent] = []
    for number, (parts, max_tokens, n, num_steps) in enumerate(requests):
        options = SamplingOptions(max_tokens=max_tokens, temperature=0.9, seed=1, n=n)
        engine.add_request(str(number), b"".join(parts), options)
        for _ in range(num_steps):
            events += engine.step()
        if number in cancelled:
            engine.cancel(str(number))
    events += drain(engine)
    for number, (parts, max_tokens, _, _) in enumerate(requests):
        mine = [event for event in events if (event.request_id, event.index) == (str(number), 0)]
        if mine[-1].finish_reason == "cancelled":
            continue
        alone = SamplingOptions(max_tokens=max_tokens, temperature=0.9, seed=1)
        assert tokens(mine) == tokens_alone(b"".join(parts), alone)
    statistics = engine.statistics()
    assert statistics.num_free_blocks == num_blocks
    assert statistics.num_running == statistics.num_waiting == 0
