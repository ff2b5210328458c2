"""Structured answers through the whole engine, on the fake model."""

import json
from dataclasses import replace

import numpy as np
import pytest

from banyan.engine.batch_generation import Prompt, run_prompts
from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.fake import FakeModel, FakeTokenizer, fake_engine
from banyan.engine.options import EngineLimits
from banyan.engine.outputs import CompletionOutput
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation.proposer import DraftDemand
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.foundation.errors import RequestError

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "on": {"type": "boolean"}},
    "required": ["name", "on"],
    "additionalProperties": False,
}
JSON = SamplingOptions(structure=Structure.json_schema(SCHEMA, any_whitespace=False), seed=1)


def answers(
    options: SamplingOptions, *, engine: Engine | None = None, prompt: bytes = b"hello"
) -> list[CompletionOutput]:
    engine = engine or fake_engine()
    (output,) = run_prompts([engine], [Prompt(list(prompt))], [options])
    engine.close()
    return list(output.outputs)


def test_every_answer_keeps_to_its_schema_and_ends_by_itself() -> None:
    for answer in answers(replace(JSON, n=5)):
        value = json.loads(answer.text)
        assert set(value) == {"name", "on"}
        assert answer.finish_reason == "stop"


def test_the_likeliest_allowed_token_is_taken_when_nothing_is_left_to_chance() -> None:
    (answer,) = answers(SamplingOptions(temperature=0, structure=Structure.regex("[A-F]{3}z")))
    assert len(answer.text) == 4
    assert answer.text.endswith("z")


@pytest.mark.parametrize("options", [{"ignore_eos": True}, {"min_tokens": 9}])
def test_the_structure_has_the_last_word_about_the_end(options: dict[str, int]) -> None:
    shape = Structure.regex("[a-c]{4}")
    (answer,) = answers(SamplingOptions(structure=shape, seed=3, max_tokens=20, **options))  # type: ignore[arg-type]
    assert len(answer.text) == 4
    assert answer.finish_reason == "stop"


def test_a_minimum_of_tokens_holds_where_the_structure_allows_it() -> None:
    options = SamplingOptions(
        structure=Structure.regex("a{1,20}"),
        min_tokens=12,
        logit_bias={FakeTokenizer.end_token_id: 100.0},
    )
    (answer,) = answers(options)
    assert answer.text == "a" * 12


def test_bias_and_penalties_move_choices_within_the_structure_only() -> None:
    shape = Structure.choice(["red", "green", "blue"])
    (answer,) = answers(
        SamplingOptions(structure=shape, logit_bias={ord("g"): 50.0, ord("x"): 100})
    )
    assert answer.text == "green"


def test_probabilities_are_the_models_own() -> None:
    free = SamplingOptions(temperature=0, logprobs=3, max_tokens=1)
    (plain,) = answers(free)
    (bound,) = answers(replace(free, structure=Structure.regex("[0-9]")))
    assert plain.logprobs is not None
    assert bound.logprobs is not None
    assert bound.logprobs[0].top == plain.logprobs[0].top
    assert bound.logprobs[0].logprob < plain.logprobs[0].logprob


def test_an_answer_that_is_cut_says_so() -> None:
    (answer,) = answers(replace(JSON, max_tokens=5))
    assert answer.finish_reason == "length"


def test_a_stop_string_ends_a_structured_answer() -> None:
    shape = Structure.regex("a{5}-b{5}")
    (answer,) = answers(SamplingOptions(structure=shape, stop="-b"))
    assert answer.text == "aaaaa"


def test_a_wrong_structure_is_refused_before_anything_is_generated() -> None:
    with pytest.raises(RequestError, match="at /properties/a/not"):
        answers(
            SamplingOptions(structure=Structure.json_schema({"properties": {"a": {"not": {}}}}))
        )


def test_an_engine_without_a_compiler_refuses_structures() -> None:
    limits = EngineLimits(max_model_len=64, max_num_seqs=2, token_budget=32, num_blocks=16)
    engine = Engine(FakeModel(16), limits, vocab_size=FakeTokenizer.vocab_size)
    with pytest.raises(RequestError, match="need a tokenizer"):
        engine.add_request("a", [1], JSON)
    assert not engine.has_work()
    engine.add_request("a", [1], SamplingOptions(max_tokens=1))
    assert engine.step()


def drain(engine: Engine) -> dict[str, list[TokenEvent]]:
    events: dict[str, list[TokenEvent]] = {}
    while engine.has_work():
        for event in engine.step():
            events.setdefault(event.request_id, []).append(event)
    engine.close()
    return events


def test_an_unknown_structure_is_compiled_while_others_go_on() -> None:
    engine = fake_engine(seed=1)
    engine.add_request("free", list(b"abc"), SamplingOptions(max_tokens=8))
    engine.add_request("bound", list(b"abc"), JSON)

    events = drain(engine)

    assert sum(len(event.token_ids) for event in events["free"]) == 8
    json.loads("".join(event.text for event in events["bound"]))


def test_a_structure_that_cannot_be_compiled_ends_its_request_alone() -> None:
    engine = fake_engine(seed=1)
    engine.add_request("free", list(b"abc"), SamplingOptions(max_tokens=4))
    engine.add_request("bound", list(b"abc"), SamplingOptions(n=2, structure=Structure.regex("(")))

    events = drain(engine)

    assert [event.finish_reason for event in events["bound"]] == ["error", "error"]
    assert "the regex cannot be used" in str(events["bound"][0].stop_reason)
    assert events["free"][-1].finish_reason == "length"


def test_a_request_may_be_cancelled_while_its_structure_is_compiled() -> None:
    engine = fake_engine()
    engine.add_request("bound", list(b"abc"), JSON)
    engine.cancel("bound")

    events = drain(engine)

    assert [event.finish_reason for event in events["bound"]] == ["cancelled"]


class Guessing:
    """Guesses often right and often wrong, from tokens that were written without guessing."""

    is_free = True

    def __init__(self, known: list[int], prompt_length: int) -> None:
        self._known = known
        self._prompt_length = prompt_length
        self._chance = np.random.default_rng(5)

    def propose(self, demands: list[DraftDemand]) -> list[list[int]]:
        guesses = []
        for demand in demands:
            place = len(demand.token_ids) - self._prompt_length
            guess = self._known[place : place + demand.most]
            if guess and self._chance.random() < 0.4:
                guess = [*guess[:-1], int(self._chance.integers(0, 256))]
            guesses.append(guess)
        return guesses

    def forget(self, sequence_id: object) -> None:
        pass


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_guesses_change_nothing_in_a_structured_answer(temperature: float) -> None:
    options = replace(JSON, temperature=temperature)
    (plain,) = answers(options)
    limits = EngineLimits(max_model_len=256, max_num_seqs=8, token_budget=64, num_blocks=128)
    tokenizer = FakeTokenizer()
    engine = Engine(
        FakeModel(128),
        limits,
        vocab_size=tokenizer.vocab_size,
        end_token_ids=(tokenizer.end_token_id,),
        tokenizer=tokenizer,
        speculator=Speculator(Guessing(list(plain.token_ids), 5), most=4),  # type: ignore[arg-type]
        structures=StructureCompiler(
            tokenizer.to_json, vocab_size=tokenizer.vocab_size, end_token_ids=(256,)
        ),
    )

    (guessed,) = answers(options, engine=engine)

    assert guessed.token_ids == plain.token_ids
    assert guessed.finish_reason == "stop"
    assert engine.statistics().tokens_accepted > 0
