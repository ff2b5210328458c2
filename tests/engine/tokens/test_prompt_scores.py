"""Scores of a prompt's tokens are those the same tokens had when the model wrote them."""

from collections import defaultdict

import pytest

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent, TokenLogprob
from banyan.engine.fake import fake_engine
from banyan.engine.sampling import SamplingOptions
from banyan.engine.tokens.prompt_scores import ROWS_AT_ONCE

WRITE = SamplingOptions(temperature=0.0, max_tokens=150, logprobs=2, ignore_eos=True)
READ = SamplingOptions(temperature=0.0, max_tokens=2, prompt_logprobs=2)


def finish(engine: Engine) -> dict[str, list[TokenEvent]]:
    events: dict[str, list[TokenEvent]] = defaultdict(list)
    while engine.has_work():
        for event in engine.step():
            events[event.request_id].append(event)
    return events


def written(prompt: bytes) -> tuple[bytes, list[TokenLogprob]]:
    engine = fake_engine()
    engine.add_request("w", prompt, WRITE)
    events = finish(engine)["w"]
    answer = bytes(token for event in events for token in event.token_ids)
    return prompt + answer, [entry for event in events for entry in event.logprobs or ()]


@pytest.mark.parametrize("token_budget", [16, 512])
def test_a_prompt_is_scored_as_it_was_written_whatever_the_chunks(token_budget: int) -> None:
    text, scores = written(b"abc")
    assert len(text) > 2 * ROWS_AT_ONCE
    engine = fake_engine(token_budget=token_budget)
    engine.add_request("other", b"something else", SamplingOptions(max_tokens=40))
    engine.add_request("read", text, READ)
    first, *rest = finish(engine)["read"]
    assert first.prompt_logprobs is not None
    assert len(first.prompt_logprobs) == len(text) - 1
    assert list(first.prompt_logprobs[2:]) == scores
    assert [event.prompt_logprobs for event in rest] == [None]


def test_the_answer_is_the_one_without_scores() -> None:
    text, _ = written(b"abc")
    answers = []
    for options in (READ, SamplingOptions(temperature=0.0, max_tokens=2)):
        engine = fake_engine()
        engine.add_request("r", text, options)
        answers.append([event.token_ids for event in finish(engine)["r"]])
    assert answers[0] == answers[1]


def test_only_the_first_of_several_answers_carries_the_scores_of_their_prompt() -> None:
    engine = fake_engine()
    engine.add_request("r", b"abc", SamplingOptions(n=3, max_tokens=3, prompt_logprobs=0))
    carriers = [event.index for event in finish(engine)["r"] if event.prompt_logprobs is not None]
    assert carriers == [0]


def test_scores_survive_that_the_prompt_is_computed_twice() -> None:
    text, scores = written(b"abc")
    engine = fake_engine(num_blocks=17, max_num_seqs=2, token_budget=2)
    engine.add_request("first", b"x" * 60, SamplingOptions(max_tokens=100, ignore_eos=True))
    for _ in range(31):
        engine.step()
    engine.add_request("read", text, READ)
    events = finish(engine)
    assert engine.statistics().preemptions > 0
    assert events["read"][0].prompt_logprobs is not None
    assert list(events["read"][0].prompt_logprobs[2:]) == scores


def test_a_prompt_of_one_token_has_no_scores_and_no_trouble() -> None:
    engine = fake_engine()
    engine.add_request("r", b"a", READ)
    assert finish(engine)["r"][0].prompt_logprobs == ()


def test_a_prompt_that_is_cached_is_computed_again_for_its_scores() -> None:
    text, scores = written(b"abc")
    engine = fake_engine()
    for name in ("first", "again"):
        engine.add_request(name, text, READ)
        events = finish(engine)[name]
        assert events[0].prompt_logprobs is not None
        assert list(events[0].prompt_logprobs[2:]) == scores
        assert events[0].num_cached_tokens == 0
    engine.add_request("unscored", text, SamplingOptions(max_tokens=1))
    assert finish(engine)["unscored"][0].num_cached_tokens > 0
