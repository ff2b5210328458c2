"""Frequencies bit by bit as transformers computes them, and the rotation itself."""

import math
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from banyan.models.json_fields import Fields
from banyan.models.rope import Rope, read_rope
from banyan.models.rotary import Rotary, compute_inverse_frequencies, rotate

HEAD_DIM = 64

SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 3.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "beta_fast": 4.0,
        "beta_slow": 4.0,
        "truncate": False,
        "attention_factor": 1.25,
    },
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=["linear", "llama3", "yarn", "yarn_step"])
def test_frequencies_are_those_of_transformers(scaling: dict[str, Any]) -> None:
    parameters = {**scaling, "rope_theta": 10000.0}
    configuration = transformers.LlamaConfig(
        hidden_size=4 * HEAD_DIM,
        num_attention_heads=4,
        max_position_embeddings=4096,
        rope_parameters=dict(parameters),
    )
    expected, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](configuration, "cpu")
    fields = Fields({"rope_parameters": parameters, "max_position_embeddings": 4096}, "config")
    rope = read_rope(fields, default_theta=1.0)
    assert torch.equal(compute_inverse_frequencies(rope, HEAD_DIM), expected)
    assert rope.attention_factor == pytest.approx(factor)


def test_plain_frequencies_fall_by_powers_of_the_base() -> None:
    frequencies = compute_inverse_frequencies(Rope(10000.0), 4)
    assert frequencies.tolist() == pytest.approx([1.0, 0.01])
    assert frequencies.dtype == torch.float32


def test_the_angle_is_position_times_frequency() -> None:
    cosine, sine = Rotary(Rope(10000.0), 4)(torch.tensor([0, 7]))
    assert cosine.shape == sine.shape == (2, 1, 2)
    assert sine[0].tolist() == [[0.0, 0.0]]
    assert sine[1].tolist() == [pytest.approx([math.sin(7), math.sin(0.07)])]


def test_a_rotation_turns_the_first_half_into_the_second() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    quarter_turn = (torch.zeros(1, 1, 2), torch.ones(1, 1, 2))
    assert rotate(x, *quarter_turn).tolist() == [[[-3.0, -4.0, 1.0, 2.0]]]


def test_a_rotation_gives_back_the_dtype_it_was_given() -> None:
    x = torch.ones(1, 1, 4, dtype=torch.bfloat16)
    half_turn = (-torch.ones(1, 1, 2), torch.zeros(1, 1, 2))
    assert rotate(x, *half_turn).dtype == torch.bfloat16


def test_the_frequencies_are_no_weight_of_a_checkpoint() -> None:
    assert list(Rotary(Rope(10000.0), 4).state_dict()) == []
