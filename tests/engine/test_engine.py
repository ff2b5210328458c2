"""The engine on a fake model whose tokens change when blocks, slots or positions are mixed up."""

import gc
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.fake import FakeModel, FakeTokenizer, fake_engine
from banyan.engine.options import EngineLimits
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import RequestError

GREEDY = SamplingOptions(temperature=0.0, max_tokens=12)


class ScriptedModel(StepModel):
    """Says the tokens of a script by position, whatever the prompt."""

    def __init__(self, script: bytes | list[int], *, start: int = 1) -> None:
        self._script = list(script)
        self._start = start

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        logits = np.zeros((len(arguments["logit_rows"]), 260), dtype=np.float32)
        for row, token in enumerate(arguments["logit_rows"]):
            place = int(arguments["positions"][token]) + 1 - self._start
            logits[row, self._script[place % len(self._script)]] = 9.0
        return {"logits": logits}


def scripted_engine(script: bytes | list[int]) -> Engine:
    return Engine(
        ScriptedModel(script),
        EngineLimits(max_model_len=64, max_num_seqs=2, token_budget=16, num_blocks=8),
        vocab_size=260,
        end_token_ids=(256,),
        tokenizer=FakeTokenizer(),
    )


def drain(engine: Engine) -> dict[tuple[str, int], list[TokenEvent]]:
    events: dict[tuple[str, int], list[TokenEvent]] = defaultdict(list)
    for _ in range(3000):
        if not engine.has_work():
            return events
        for event in engine.step():
            events[event.request_id, event.index].append(event)
    raise AssertionError("the engine did not come to an end")


def tokens(events: Iterable[TokenEvent]) -> list[int]:
    return [token_id for event in events for token_id in event.token_ids]


def text(events: Iterable[TokenEvent]) -> str:
    return "".join(event.text for event in events)


def answer(engine: Engine, prompt: bytes, options: SamplingOptions = GREEDY) -> list[TokenEvent]:
    engine.add_request("only", prompt, options)
    return drain(engine)["only", 0]


def tokens_alone(prompt: bytes, options: SamplingOptions = GREEDY) -> list[int]:
    return tokens(answer(fake_engine(), prompt, options))


def test_one_request_gives_its_tokens_one_by_one_and_then_ends() -> None:
    engine = fake_engine()
    events = answer(engine, b"hello")
    assert [len(event.token_ids) for event in events] == [1] * 12
    assert [event.finish_reason for event in events] == [None] * 11 + ["length"]
    assert events[-1].num_prompt_tokens == 5
    assert [event.num_generated_tokens for event in events] == list(range(1, 13))
    assert text(events) == bytes(tokens(events)).decode()
    assert engine.statistics().num_free_blocks == 128


def test_the_fake_model_says_something_else_after_another_prompt() -> None:
    assert tokens_alone(b"hello") != tokens_alone(b"hellp")
    assert tokens_alone(b"ab") != tokens_alone(b"ba")


@pytest.mark.parametrize("token_budget", [8, 9, 13, 256], ids=str)
def test_chunks_of_any_size_give_the_same_tokens(token_budget: int) -> None:
    prompt = bytes(range(97, 122)) * 6
    chunked = tokens(answer(fake_engine(token_budget=token_budget), prompt))
    assert chunked == tokens_alone(prompt)


def test_requests_together_get_the_tokens_they_get_alone() -> None:
    engine = fake_engine(max_num_seqs=4)
    prompts = [b"a" * 1, b"b" * 17, b"c" * 100, b"d" * 33, b"e" * 70, b"f" * 16]
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt, GREEDY)
    events = drain(engine)
    for number, prompt in enumerate(prompts):
        assert tokens(events[str(number), 0]) == tokens_alone(prompt), prompt


def test_a_preempted_request_is_recomputed_and_gets_the_same_tokens() -> None:
    engine = fake_engine(max_model_len=64, num_blocks=6, max_num_seqs=4)
    options = SamplingOptions(temperature=0.7, seed=3, max_tokens=40, ignore_eos=True)
    prompts = [b"first", b"second", b"third"]
    for prompt in prompts:
        engine.add_request(prompt.decode(), prompt, options)
    events = drain(engine)
    assert engine.statistics().preemptions > 0
    for prompt in prompts:
        assert tokens(events[prompt.decode(), 0]) == tokens_alone(prompt, options), prompt
    assert engine.statistics().num_free_blocks == 6


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.integers(1, 30)), max_size=8),
    st.integers(6, 20),
    st.integers(4, 64),
    st.booleans(),
)
def test_any_mix_ends_with_the_tokens_of_each_alone_and_no_block_left_behind(
    requests: list[tuple[bytes, int]], num_blocks: int, token_budget: int, cancel_first: bool
) -> None:
    engine = fake_engine(
        max_model_len=96, max_num_seqs=4, num_blocks=num_blocks, token_budget=token_budget
    )
    events: dict[tuple[str, int], list[TokenEvent]] = defaultdict(list)
    for number, (prompt, max_tokens) in enumerate(requests):
        options = SamplingOptions(max_tokens=max_tokens, temperature=0.0)
        engine.add_request(str(number), prompt, options)
        for event in engine.step():
            events[event.request_id, event.index].append(event)
    if cancel_first:
        engine.cancel("0")
    for key, more in drain(engine).items():
        events[key].extend(more)
    for number, (prompt, max_tokens) in enumerate(requests):
        ends = events[str(number), 0]
        assert sum(event.finish_reason is not None for event in ends) == 1
        if ends[-1].finish_reason != "cancelled":
            options = SamplingOptions(max_tokens=max_tokens, temperature=0.0)
            assert tokens(ends) == tokens_alone(prompt, options)
    statistics = engine.statistics()
    assert statistics.num_free_blocks == num_blocks
    assert statistics.num_running == statistics.num_waiting == 0


def test_the_last_token_of_the_context_can_be_generated() -> None:
    engine = fake_engine(max_model_len=32, num_blocks=2)
    events = answer(engine, b"x" * 20, SamplingOptions(temperature=0.0))
    assert len(tokens(events)) == 12
    assert events[-1].finish_reason == "length"


def test_the_end_of_sequence_token_ends_the_answer_and_has_no_text() -> None:
    events = answer(fake_engine(end_after=10), b"hello", SamplingOptions(temperature=0.0))
    assert tokens(events)[-1] == FakeTokenizer.end_token_id
    assert len(tokens(events)) == 6
    assert events[-1].finish_reason == "stop"
    assert events[-1].stop_reason is None
    assert len(text(events)) == 5


def test_an_ignored_end_of_sequence_token_does_not_end_the_answer() -> None:
    options = SamplingOptions(temperature=0.0, ignore_eos=True, max_tokens=9)
    events = answer(fake_engine(end_after=8), b"hello", options)
    assert len(tokens(events)) == 9
    assert events[-1].finish_reason == "length"


def test_a_stop_token_ends_the_answer_and_is_named() -> None:
    options = SamplingOptions(temperature=0.0, stop_token_ids=[ord("c")])
    events = answer(scripted_engine(b"abcd"), b"x", options)
    assert (text(events), tokens(events)) == ("ab", list(b"abc"))
    assert events[-1].finish_reason == "stop"
    assert events[-1].stop_reason == ord("c")


def test_a_stop_token_s_text_is_kept_on_request() -> None:
    options = SamplingOptions(
        temperature=0.0, stop_token_ids=[ord("c")], include_stop_str_in_output=True
    )
    assert text(answer(scripted_engine(b"abcd"), b"x", options)) == "abc"


def test_a_stop_string_across_tokens_ends_the_answer_and_never_shows() -> None:
    options = SamplingOptions(temperature=0.0, stop="cd")
    events = answer(scripted_engine(b"abcxcdef"), b"x", options)
    assert text(events) == "abcx"
    assert [event.text for event in events] == ["a", "b", "", "cx", "", ""]
    assert events[-1].stop_reason == "cd"


def test_no_stop_before_the_minimum_length() -> None:
    options = SamplingOptions(temperature=0.0, stop="b", min_tokens=3)
    assert text(answer(scripted_engine(b"ab"), b"x", options)) == "aba"
    options = SamplingOptions(temperature=0.0, min_tokens=3, max_tokens=5)
    events = answer(scripted_engine([97, 256]), b"x", options)
    assert tokens(events)[:3] == [97, 0, 97]
    assert tokens(events)[3] == 256


def test_a_held_back_start_of_a_stop_string_comes_out_when_the_answer_ends() -> None:
    options = SamplingOptions(temperature=0.0, stop="bc", max_tokens=2)
    events = answer(scripted_engine(b"abab"), b"x", options)
    assert [event.text for event in events] == ["a", "b"]


def test_a_chinese_character_is_published_whole() -> None:
    options = SamplingOptions(temperature=0.0, max_tokens=4)
    events = answer(scripted_engine("你a".encode()), b"x", options)
    assert [event.text for event in events] == ["", "", "你", "a"]


def test_several_answers_of_one_request_differ_and_each_ends() -> None:
    engine = fake_engine()
    engine.add_request("many", b"hello", SamplingOptions(n=3, seed=5, max_tokens=8))
    events = drain(engine)
    assert sorted(events) == [("many", 0), ("many", 1), ("many", 2)]
    answers = {tuple(tokens(events["many", index])) for index in range(3)}
    assert len(answers) == 3
    assert tokens(events["many", 0]) == tokens_alone(
        b"hello", SamplingOptions(seed=5, max_tokens=8)
    )


def num_answers_in_memory() -> int:
    gc.collect()
    # Not isinstance: asking some libraries' objects for their class warns.
    return sum(type(thing) is Answer for thing in gc.get_objects())


def test_a_finished_answer_is_forgotten_while_others_go_on() -> None:
    engine = fake_engine()
    num_before = num_answers_in_memory()
    options = SamplingOptions(n=2, max_tokens=100, seed=3, stop_token_ids=list(range(97, 110)))
    engine.add_request("a", b"hello", options)
    ends: list[int] = []
    while not ends:
        ends = [event.index for event in engine.step() if event.finish_reason is not None]
    assert len(ends) == 1
    assert num_answers_in_memory() == num_before + 1


def test_a_seed_gives_the_same_tokens_again_and_no_seed_gives_others() -> None:
    seeded = SamplingOptions(seed=1, max_tokens=16)
    assert tokens_alone(b"hello", seeded) == tokens_alone(b"hello", seeded)
    free = SamplingOptions(max_tokens=16)
    assert tokens_alone(b"hello", free) != tokens_alone(b"hello", free)


def test_the_engine_s_seed_makes_requests_without_one_reproducible_but_not_equal() -> None:
    def run() -> list[list[int]]:
        engine = fake_engine(seed=11)
        for name in ("a", "b"):
            engine.add_request(name, b"hello", SamplingOptions(max_tokens=16))
        events = drain(engine)
        return [tokens(events[name, 0]) for name in ("a", "b")]

    first = run()
    assert first == run()
    assert first[0] != first[1]


def test_log_probabilities_come_with_each_token() -> None:
    options = SamplingOptions(temperature=0.0, max_tokens=3, logprobs=2)
    events = answer(fake_engine(), b"hello", options)
    for event in events:
        assert event.logprobs is not None
        assert event.logprobs[0].token_id == event.token_ids[0] == event.logprobs[0].top[0][0]
        assert event.logprobs[0].logprob == event.logprobs[0].top[0][1] < 0
        assert len(event.logprobs[0].top) == 2


def test_a_cancelled_request_frees_its_blocks_at_once_and_says_so_in_the_next_step() -> None:
    engine = fake_engine()
    engine.add_request("gone", b"hello", SamplingOptions(n=2, max_tokens=50, ignore_eos=True))
    engine.add_request("stays", b"hello", GREEDY)
    engine.step()
    engine.cancel("gone")
    assert engine.statistics().num_running == 1
    assert engine.statistics().num_free_blocks == 127
    ends = [event for event in engine.step() if event.finish_reason is not None]
    assert [(e.request_id, e.index, e.finish_reason) for e in ends] == [
        ("gone", 0, "cancelled"),
        ("gone", 1, "cancelled"),
    ]
    assert tokens(drain(engine)["stays", 0])


def test_cancelling_a_waiting_an_unknown_or_a_finished_request_is_no_error() -> None:
    engine = fake_engine()
    engine.add_request("waiting", b"hello", GREEDY)
    engine.cancel("waiting")
    engine.cancel("waiting")
    engine.cancel("unknown")
    assert [event.finish_reason for event in engine.step()] == ["cancelled"]
    assert not engine.has_work()
    answer(engine, b"x")
    engine.cancel("only")
    assert not engine.has_work()


def test_a_name_can_be_used_again_only_after_its_request_ended() -> None:
    engine = fake_engine()
    engine.add_request("twice", b"a", GREEDY)
    with pytest.raises(RequestError, match="a request 'twice' is already being served"):
        engine.add_request("twice", b"a", GREEDY)
    drain(engine)
    engine.add_request("twice", b"a", GREEDY)


def test_a_refused_request_leaves_nothing_behind() -> None:
    engine = fake_engine()
    with pytest.raises(RequestError, match="the prompt is empty"):
        engine.add_request("empty", b"", GREEDY)
    assert not engine.has_work()
    assert engine.step() == []


def test_stop_strings_without_a_tokenizer_are_refused() -> None:
    limits = EngineLimits(max_model_len=64, max_num_seqs=2, token_budget=16, num_blocks=8)
    engine = Engine(FakeModel(8), limits, vocab_size=260)
    with pytest.raises(RequestError, match="stop strings need a tokenizer"):
        engine.add_request("a", b"a", SamplingOptions(stop="x"))
    engine.add_request("a", b"a", GREEDY)
    events = drain(engine)["a", 0]
    assert text(events) == ""
    assert len(tokens(events)) == 12


def test_logits_that_are_no_numbers_end_the_request_with_an_error() -> None:
    class BrokenModel(StepModel):
        def run(self, arguments: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
            return {"logits": np.full((1, 260), np.nan, dtype=np.float32)}

    limits = EngineLimits(max_model_len=64, max_num_seqs=2, token_budget=16, num_blocks=8)
    events = answer(Engine(BrokenModel(), limits, vocab_size=260), b"a")
    assert [event.finish_reason for event in events] == ["error"]
    assert events[0].stop_reason == (
        "no token can be chosen: the logits are not numbers, or every token is forbidden"
    )
    assert events[0].token_ids == ()


def test_statistics_count_prompt_tokens_answers_and_steps() -> None:
    engine = fake_engine(token_budget=16)
    engine.add_request("a", b"x" * 40, SamplingOptions(temperature=0.0, max_tokens=3))
    assert engine.statistics().num_waiting == 1
    engine.step()
    assert engine.statistics().num_running == 1
    assert engine.statistics().tokens_generated == 0
    drain(engine)
    statistics = engine.statistics()
    assert statistics.tokens_prefilled == 40
    assert statistics.tokens_generated == 3
    assert statistics.num_steps == 5
    assert statistics.num_blocks == 128


def test_a_fake_model_notices_a_place_that_was_never_written() -> None:
    arguments: dict[str, NDArray[Any]] = {
        "token_ids": np.array([97]),
        "positions": np.array([1]),
        "slots": np.array([17]),
        "block_tables": np.array([[1]], dtype=np.int32),
        "query_starts": np.array([0, 1], dtype=np.int32),
        "context_lengths": np.array([2], dtype=np.int32),
        "logit_rows": np.array([0]),
    }
    first = FakeModel(4).run(arguments)["logits"]
    arguments["block_tables"] = np.array([[2]], dtype=np.int32)
    assert not np.array_equal(FakeModel(4).run(arguments)["logits"], first)
