"""Options for guessing tokens: what is taken, and the sentence for what is not."""

from typing import Any

import pytest

from banyan.engine.speculation_options import SpeculationOptions, read_speculation
from banyan.foundation.errors import InputError


def test_json_a_mapping_and_options_mean_the_same() -> None:
    options = SpeculationOptions(method="ngram", num_speculative_tokens=5)
    assert read_speculation('{"method": "ngram", "num_speculative_tokens": 5}') == options
    assert read_speculation({"method": "ngram", "num_speculative_tokens": 5}) == options
    assert read_speculation(options) is options
    assert read_speculation(None) is None


def test_a_model_alone_is_a_draft_model() -> None:
    assert read_speculation({"model": "some/model"}) == SpeculationOptions(
        method="draft_model", model="some/model"
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("{", "the speculation is not JSON"),
        ("[1]", r"the speculation is \[1\]; give an object"),
        ({"method": "ngram", "k": 1}, "unknown field 'k'; known are method"),
        ({}, "method=None cannot be used; use one of ngram"),
        ({"method": "magic"}, "method='magic' cannot be used"),
        ({"method": "draft_model"}, "needs a directory or hub id"),
        ({"method": "eagle"}, "the method eagle needs a directory or hub id"),
        ({"method": "ngram", "model": "x"}, "the method ngram takes none"),
        ({"method": "ngram", "num_speculative_tokens": 0}, "from 1 to 32"),
        ({"method": "ngram", "num_speculative_tokens": True}, "from 1 to 32"),
        ({"method": "ngram", "prompt_lookup_min": 17}, "from 1 to 16"),
        ({"method": "ngram", "prompt_lookup_max": 1.5}, "from 1 to 256"),
        ({"method": "ngram", "always": 1}, "give true or false"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(given: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_speculation(given)
