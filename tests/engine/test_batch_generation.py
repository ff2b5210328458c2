"""Lists of prompts through a fake engine, as `LLM.generate` runs them."""

import pytest

from banyan.engine.batch_generation import Prompt, run_prompts
from banyan.engine.fake import fake_engine
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import RequestError

GREEDY = SamplingOptions(temperature=0.0, max_tokens=5)


def prompt(text: str) -> Prompt:
    return Prompt(list(text.encode()), text)


def test_answers_come_in_the_order_of_the_prompts_however_long_each_takes() -> None:
    lengths = [9, 1, 5]
    options = [SamplingOptions(temperature=0.0, max_tokens=length) for length in lengths]
    outputs = run_prompts([fake_engine()], [prompt("a"), prompt("b"), prompt("c")], options)
    assert [len(output.token_ids) for output in outputs] == lengths
    assert [output.prompt for output in outputs] == ["a", "b", "c"]
    assert [output.prompt_token_ids for output in outputs] == [[97], [98], [99]]


def test_the_short_names_are_those_of_the_first_answer() -> None:
    options = SamplingOptions(n=2, seed=1, max_tokens=4, logprobs=1)
    (output,) = run_prompts([fake_engine()], [prompt("a")], [options])
    first, second = output.outputs
    assert (first.index, second.index) == (0, 1)
    assert first.token_ids != second.token_ids
    assert output.text == first.text
    assert output.token_ids == first.token_ids
    assert output.finish_reason == first.finish_reason == "length"
    assert output.logprobs == first.logprobs
    assert output.logprobs is not None
    assert [entry.token_id for entry in output.logprobs] == output.token_ids


def test_no_log_probabilities_unless_asked_for() -> None:
    assert run_prompts([fake_engine()], [prompt("a")], [GREEDY])[0].logprobs is None


def test_no_prompts_give_no_answers() -> None:
    assert run_prompts([fake_engine()], [], []) == []


def test_a_refused_prompt_is_named_and_nothing_is_left_behind() -> None:
    engine = fake_engine()
    with pytest.raises(RequestError, match=r"prompt 1 of 2 \(counting from 0\): the prompt is e"):
        run_prompts([engine], [prompt("a"), Prompt([])], [GREEDY, GREEDY])
    assert not engine.has_work()
    assert engine.statistics().num_steps == 0
    assert run_prompts([engine], [prompt("a")], [GREEDY])[0].finish_reason == "length"


def test_a_single_refused_prompt_needs_no_number() -> None:
    with pytest.raises(RequestError, match=r"^the prompt is empty"):
        run_prompts([fake_engine()], [Prompt([])], [GREEDY])


def test_an_interrupted_call_leaves_the_engine_empty() -> None:
    engine = fake_engine()

    def interrupt(stage: str, num_done: int, num_all: int) -> None:
        raise KeyboardInterrupt

    options = [SamplingOptions(temperature=0.0, max_tokens=n) for n in (1, 50)]
    with pytest.raises(KeyboardInterrupt):
        run_prompts([engine], [prompt("a"), prompt("b")], options, progress=interrupt)
    assert not engine.has_work()
    assert engine.statistics().num_free_blocks == 128


def test_progress_counts_finished_answers() -> None:
    calls = []
    run_prompts(
        [fake_engine()],
        [prompt("a"), prompt("b")],
        [GREEDY, SamplingOptions(max_tokens=2, n=2)],
        progress=lambda *call: calls.append(call),
    )
    assert calls == [("Generating", 1, 3), ("Generating", 2, 3), ("Generating", 3, 3)]


def test_several_engines_share_the_prompts_and_answers_keep_their_order() -> None:
    alone = run_prompts([fake_engine()], [prompt(c) for c in "abcdef"], [GREEDY] * 6)
    engines, told = [fake_engine(), fake_engine()], []
    outputs = run_prompts(
        engines,
        [prompt(c) for c in "abcdef"],
        [GREEDY] * 6,
        speeds=[2.0, 1.0],
        progress=lambda what, done, of: told.append((what, done, of)),
    )
    assert [output.prompt for output in outputs] == list("abcdef")
    assert [output.token_ids for output in outputs] == [output.token_ids for output in alone]
    assert told == [("Generating", done, 6) for done in range(1, 7)]
    assert all(engine.statistics().num_steps > 0 for engine in engines)


def test_one_refused_prompt_leaves_every_engine_untouched() -> None:
    engines = [fake_engine(), fake_engine()]
    with pytest.raises(RequestError, match=r"prompt 2 of 3 \(counting from 0\)"):
        run_prompts(
            engines, [prompt("a"), prompt("b"), Prompt([])], [GREEDY] * 3, speeds=[1.0, 1.0]
        )
    assert [engine.statistics().num_steps for engine in engines] == [0, 0]
    assert not any(engine.has_work() for engine in engines)


def test_when_one_engine_is_interrupted_the_others_stop_too() -> None:
    engines = [fake_engine(), fake_engine()]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    options = [SamplingOptions(temperature=0.0, max_tokens=2), *[GREEDY] * 3]
    with pytest.raises(KeyboardInterrupt):
        run_prompts(
            engines, [prompt(c) for c in "abcd"], options, speeds=[1.0, 1.0], progress=interrupt
        )
    assert not any(engine.has_work() for engine in engines)
