"""Sampling options: what is accepted, what is refused and in which words."""

from typing import Any

import msgspec
import pytest

from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import RequestError


def test_the_defaults_are_the_model_s_own_distribution_to_the_end_of_the_context() -> None:
    options = SamplingOptions()
    assert options.max_tokens is None
    assert options.temperature == 1.0
    assert not options.is_greedy
    assert not options.changes_logits
    assert options.stop_strings == ()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("temperature", -0.1, "temperature=-0.1 cannot be used; give a number from 0.0 to 100.0"),
        ("temperature", 10**400, "give a number from 0.0 to 100.0"),
        ("temperature", float("nan"), "temperature=nan"),
        ("temperature", "hot", "temperature='hot'"),
        ("top_p", 0.0, "top_p=0.0 cannot be used; give a number above 0 and at most 1"),
        ("top_p", 1.5, "top_p=1.5"),
        ("top_k", -2, "top_k=-2 cannot be used; give a whole number of -1 or more"),
        ("min_p", 2, "min_p=2 cannot be used; give a number from 0.0 to 1.0"),
        ("repetition_penalty", 0, "repetition_penalty=0 cannot be used; give a number from 0.01"),
        ("repetition_penalty", 1e-50, "give a number from 0.01 to 100.0"),
        ("presence_penalty", 3, "from -2.0 to 2.0"),
        ("frequency_penalty", -3, "from -2.0 to 2.0"),
        ("max_tokens", 0, "max_tokens=0 cannot be used; give a whole number of 1 or more"),
        ("max_tokens", 1.5, "max_tokens=1.5"),
        ("max_tokens", True, "max_tokens=True"),
        ("n", 0, "n=0 cannot be used; give a whole number from 1 to 128"),
        ("n", 129, "n=129"),
        ("logprobs", 21, "logprobs=21 cannot be used; give a whole number from 0 to 20"),
        ("seed", "x", "seed='x'"),
        ("stop", "", "stop='' cannot be used"),
        ("stop", ["a", ""], "none of them empty"),
        ("stop", 5, "stop=5 cannot be used; give a list"),
        ("stop", ["a"] * 17, "stop has 17 texts; at most 16 are allowed"),
        ("stop", "a" * 4097, "stop has a text of 4097 characters; at most 4096 are allowed"),
        ("stop_token_ids", [-1], "stop_token_ids=-1"),
        ("stop_token_ids", [1] * 4097, "stop_token_ids lists 4097 tokens; at most 4096"),
        ("stop_token_ids", 7, "stop_token_ids=7 cannot be used; give a list"),
        ("logit_bias", {1: 101.0}, "logit_bias=101.0 cannot be used; give numbers from -100"),
        ("logit_bias", {"a": 1.0}, "logit_bias='a'"),
        ("logit_bias", dict.fromkeys(range(4097), 1.0), "logit_bias lists 4097 tokens"),
        ("logit_bias", [1], "give a mapping"),
        ("prompt_logprobs", 21, "prompt_logprobs=21 cannot be used"),
        ("allowed_token_ids", [], "list at least one token"),
        ("allowed_token_ids", [-1], "allowed_token_ids=-1"),
        ("bad_token_sequences", [[1], []], "sequences of at least one token"),
        ("bad_token_sequences", [[1] * 4097], "bad_token_sequences lists 4097 tokens"),
        ("ignore_eos", 1, "ignore_eos=1 cannot be used; give true or false"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_the_value_and_the_limit(
    field: str, value: Any, words: str
) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingOptions(**{field: value})
    assert words in str(caught.value)
    assert caught.value.parameter == field


def test_more_minimum_than_maximum_tokens_is_refused() -> None:
    with pytest.raises(RequestError, match=r"min_tokens=5 .* must not exceed max_tokens=4"):
        SamplingOptions(min_tokens=5, max_tokens=4)


def test_one_stop_string_and_a_list_of_one_are_the_same() -> None:
    assert SamplingOptions(stop="end") == SamplingOptions(stop=["end"])
    assert SamplingOptions(stop="end").stop_strings == ("end",)


def test_top_k_of_minus_one_means_all_as_it_does_elsewhere() -> None:
    assert SamplingOptions(top_k=-1).top_k == 0


@pytest.mark.parametrize(
    "options", [SamplingOptions(temperature=0.0), SamplingOptions(top_k=1)], ids=["cold", "top 1"]
)
def test_greedy_is_recognised(options: SamplingOptions) -> None:
    assert options.is_greedy


def test_options_survive_a_message_between_processes() -> None:
    options = SamplingOptions(
        max_tokens=3, stop=["a", "b"], stop_token_ids=[4], logit_bias={5: 1.5}, seed=2, logprobs=1
    )
    message = msgspec.msgpack.encode(options)
    assert msgspec.msgpack.decode(message, type=SamplingOptions) == options
