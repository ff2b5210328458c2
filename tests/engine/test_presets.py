import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.presets import PRESETS, chosen_options
from banyan.foundation.errors import InputError


def test_without_a_preset_what_is_not_asked_stays_as_it_is() -> None:
    assert chosen_options(None, {"threads": 2, "max_num_seqs": None}) == EngineOptions(threads=2)


def test_a_preset_proposes_and_the_person_wins() -> None:
    chosen = chosen_options("low-latency", {"max_num_seqs": 3, "threads": None})
    assert (chosen.max_num_seqs, chosen.max_num_batched_tokens) == (3, 256)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_used_as_it_is(name: str) -> None:
    options = chosen_options(name, {})
    assert options.max_num_batched_tokens is not None
    assert options.max_num_batched_tokens >= options.max_num_seqs


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"preset='fast' is not known; use one of low-latency"):
        chosen_options("fast", {})
