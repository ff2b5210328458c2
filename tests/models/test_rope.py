import math
from typing import Any

import pytest

from banyan.foundation.errors import ModelError, UnsupportedModelError
from banyan.models.json_fields import Fields
from banyan.models.rope import LinearScaling, Llama3Scaling, Rope, YarnScaling, read_rope


def read(**values: Any) -> Rope:
    fields = Fields({"max_position_embeddings": 4096, **values}, "config.json")
    return read_rope(fields, default_theta=10000.0)


def test_both_spellings_of_a_plain_rope_are_read() -> None:
    assert read() == Rope(10000.0)
    assert read(rope_theta=5e5) == Rope(5e5)
    assert read(rope_parameters={"rope_type": "default", "rope_theta": 5e5}) == Rope(5e5)


def test_both_spellings_of_a_linear_rope_are_read() -> None:
    expected = Rope(5e5, LinearScaling(2.0))
    assert read(rope_theta=5e5, rope_scaling={"type": "linear", "factor": 2.0}) == expected
    parameters = {"rope_type": "linear", "rope_theta": 5e5, "factor": 2.0}
    assert read(rope_parameters=parameters) == expected


def test_llama3_scaling_takes_its_original_length_from_the_model_when_absent() -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    assert read(rope_scaling=scaling).scaling == Llama3Scaling(8.0, 1.0, 4.0, 4096)
    scaling["original_max_position_embeddings"] = 1024
    assert read(rope_scaling=scaling).scaling == Llama3Scaling(8.0, 1.0, 4.0, 1024)


def test_yarn_infers_its_attention_factor_as_the_paper_says() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    rope = read(rope_scaling=scaling)
    assert rope.scaling == YarnScaling(4.0, 1024, 0.1 * math.log(4.0) + 1.0, 32.0, 1.0, True)
    assert rope.attention_factor == pytest.approx(1.13862944)


def test_yarn_takes_what_is_given() -> None:
    scaling = {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "attention_factor": 1.5,
        "beta_fast": 16,
        "beta_slow": 2,
        "truncate": False,
    }
    assert read(rope_scaling=scaling).scaling == YarnScaling(4.0, 1024, 1.5, 16.0, 2.0, False)


def test_yarn_divides_the_two_scales_when_both_are_given() -> None:
    scaling = {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 1024,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
    }
    expected = (0.1 * math.log(40) + 1) / (0.05 * math.log(40) + 1)
    assert read(rope_scaling=scaling).attention_factor == pytest.approx(expected)


def test_a_yarn_that_does_not_stretch_leaves_attention_alone() -> None:
    scaling = {"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 4096}
    assert read(rope_scaling=scaling).attention_factor == 1.0


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "su", "mrope"])
def test_an_unknown_rope_is_named_with_those_supported(kind: str) -> None:
    with pytest.raises(
        UnsupportedModelError, match=f"rope type '{kind}'; supported are default, linear, llama3"
    ):
        read(rope_scaling={"rope_type": kind, "factor": 2.0})


def test_a_partial_rotation_is_refused_in_both_places() -> None:
    with pytest.raises(UnsupportedModelError, match=r"rotates 0\.5 of each head"):
        read(partial_rotary_factor=0.5)
    with pytest.raises(UnsupportedModelError, match=r"rotates 0\.5 of each head"):
        read(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5})


def test_a_rope_for_each_kind_of_layer_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="its own rope"):
        read(rope_parameters={"full_attention": {"rope_type": "default"}})


def test_impossible_factors_are_refused() -> None:
    with pytest.raises(ModelError, match="'factor' must be above 0, found 0"):
        read(rope_scaling={"rope_type": "linear", "factor": 0})
    scaling = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1}
    with pytest.raises(ModelError, match=r"high_freq_factor 1\.0 must be above low"):
        read(rope_scaling=scaling)
