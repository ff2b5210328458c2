"""Requests that cannot be served are refused at once, in one clear sentence."""

from typing import Any

import pytest

from banyan.engine.options import EngineLimits, EngineOptions
from banyan.engine.requests.admission import admit
from banyan.engine.requests.request import Request
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import InputError, RequestError

LIMITS = EngineLimits(max_model_len=10, max_num_seqs=2, token_budget=4, num_blocks=1)


def ask(prompt: list[int], **options: Any) -> Request:
    return admit(
        "a",
        prompt,
        SamplingOptions(**options),
        limits=LIMITS,
        vocab_size=50,
        end_token_ids=(3,),
    )


def test_no_maximum_fills_the_context() -> None:
    assert ask([1, 2, 4]).max_tokens == 7


def test_the_model_s_end_counts_unless_it_is_ignored() -> None:
    assert ask([1]).end_token_ids == {3}
    assert ask([1], ignore_eos=True).end_token_ids == set()


@pytest.mark.parametrize(
    ("prompt", "options", "words", "parameter"),
    [
        ([], {}, "the prompt is empty; give at least one token", "prompt"),
        (
            [1] * 10,
            {},
            "the prompt has 10 tokens, but the context holds 10 and one must be left for the "
            "answer; shorten the prompt",
            "prompt",
        ),
        (
            [1, 2],
            {"max_tokens": 9},
            "the prompt has 2 tokens and max_tokens=9, together 11, but the context holds 10; "
            "set max_tokens to 8 or less, or shorten the prompt",
            "max_tokens",
        ),
        (
            [1, 2],
            {"min_tokens": 9},
            "min_tokens=9 cannot be reached: the context has room for 8 more tokens",
            "min_tokens",
        ),
        ([50], {}, "the prompt holds token id 50; ids of this model are 0 to 49", "prompt"),
        ([-1, 2], {}, "the prompt holds token id -1; ids of this model are 0 to 49", "prompt"),
        ([1], {"stop_token_ids": [50]}, "stop_token_ids holds token id 50;", "stop_token_ids"),
        ([1], {"logit_bias": {99: 1.0}}, "logit_bias holds token id 99;", "logit_bias"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(
    prompt: list[int], options: dict[str, Any], words: str, parameter: str
) -> None:
    with pytest.raises(RequestError) as caught:
        ask(prompt, **options)
    assert words in str(caught.value)
    assert caught.value.parameter == parameter


def test_the_last_place_of_the_context_can_be_used() -> None:
    assert ask([1] * 9).max_tokens == 1


def test_a_budget_below_the_number_of_sequences_is_refused() -> None:
    with pytest.raises(InputError, match="max_num_batched_tokens=3 is less than max_num_seqs=4"):
        EngineLimits(max_model_len=10, max_num_seqs=4, token_budget=3, num_blocks=9)


def test_a_budget_larger_than_programs_are_made_for_is_refused() -> None:
    with pytest.raises(InputError, match="max_num_batched_tokens=65537 is more than the 65536"):
        EngineLimits(max_model_len=10, max_num_seqs=4, token_budget=65537, num_blocks=9)


def test_a_cache_too_small_for_one_full_sequence_is_refused() -> None:
    with pytest.raises(InputError, match="num_blocks=1 cannot hold one sequence"):
        EngineLimits(max_model_len=17, max_num_seqs=4, token_budget=4, num_blocks=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float8"}, "dtype='float8' is not known; use one of auto, float32, bfloat16"),
        ({"threads": 0}, "threads=0 cannot be used; give a whole number of 1 or more"),
        ({"max_num_seqs": 0}, "max_num_seqs=0"),
        ({"max_model_len": 1.5}, "max_model_len=1.5"),
    ],
)
def test_wrong_engine_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        EngineOptions(**options)
    assert words in str(caught.value)
