"""Our decoder, run eagerly through its paged caches, against transformers."""

import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from banyan.models.configuration import ModelConfiguration, read_configuration
from banyan.models.decoder import Decoder
from banyan.models.reference import empty_caches, load_decoder, reference_logits
from banyan.models.weights import CheckpointWeights
from tests.conftest import Checkpoint
from tests.models.checkpoints import DECODER_KINDS, change_json

# Longer than the window of the sliding kinds and the original length of the llama3 rope.
NUM_TOKENS = 600


def tokens(count: int = NUM_TOKENS) -> list[int]:
    return [int(token) for token in np.random.default_rng(7).integers(0, 320, count)]


def open_decoder(directory: Path) -> tuple[Decoder, ModelConfiguration]:
    configuration = read_configuration(directory)
    assert isinstance(configuration, ModelConfiguration)
    weights = CheckpointWeights(directory)
    return load_decoder(configuration, weights, dtype=torch.float32), configuration


@cache
def expected_logits(directory: Path) -> NDArray[np.float32]:
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        logits: Any = model(torch.tensor([tokens()])).logits[0].numpy()
    return np.asarray(logits, np.float32)


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("kind", DECODER_KINDS)
def test_logits_agree_with_transformers(checkpoint: Checkpoint, kind: str) -> None:
    decoder, configuration = open_decoder(checkpoint(kind))
    logits = reference_logits(decoder, configuration, tokens())
    assert relative_error(logits, expected_logits(checkpoint(kind))) <= 1e-5


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3_moe"])
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(
    checkpoint: Checkpoint, kind: str
) -> None:
    decoder, configuration = open_decoder(checkpoint(kind))
    logits = reference_logits(decoder, configuration, tokens(), chunks=(1, 17, 300, 301))
    assert relative_error(logits, expected_logits(checkpoint(kind))) <= 1e-5


def test_the_fields_of_transformers_4_give_the_same_logits(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    old = shutil.copytree(checkpoint("llama31"), tmp_path / "old")
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    change_json(
        old / "config.json",
        rope_parameters=None,
        dtype=None,
        rope_theta=10000.0,
        rope_scaling=scaling,
        torch_dtype="float32",
    )
    logits = reference_logits(*open_decoder(old), tokens())
    assert relative_error(logits, expected_logits(checkpoint("llama31"))) <= 1e-5


def test_a_yarn_without_truncation_agrees_with_transformers(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = shutil.copytree(checkpoint("llama_yarn"), tmp_path / "yarn")
    parameters = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 256,
        "truncate": False,
        "beta_fast": 8.0,
        "mscale": 1.0,
        "mscale_all_dim": 0.5,
    }
    change_json(directory / "config.json", rope_parameters=parameters)
    logits = reference_logits(*open_decoder(directory), tokens())
    assert relative_error(logits, expected_logits(directory)) <= 1e-5


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("mistral", {"sliding_windows": (0, 0)}),
        ("qwen2", {"sliding_windows": (0, 0)}),
        ("llama31", {"rope": None}),
        ("llama_yarn", {"rope": None}),
        ("llama_linear", {"rope": None}),
    ],
)
def test_the_comparison_notices_a_part_left_out(
    checkpoint: Checkpoint, kind: str, change: dict[str, Any]
) -> None:
    decoder, configuration = open_decoder(checkpoint(kind))
    if "rope" in change:
        change = {"rope": replace(configuration.rope, scaling=None)}
    changed = replace(configuration, **change)
    decoder = load_decoder(changed, CheckpointWeights(checkpoint(kind)), dtype=torch.float32)
    logits = reference_logits(decoder, changed, tokens())
    assert relative_error(logits, expected_logits(checkpoint(kind))) > 1e-3


def test_bfloat16_logits_are_near_those_of_float32(checkpoint: Checkpoint) -> None:
    directory = checkpoint("llama", dtype="bfloat16")
    configuration = read_configuration(directory)
    assert isinstance(configuration, ModelConfiguration)
    weights = CheckpointWeights(directory)
    half = load_decoder(configuration, weights, dtype=torch.bfloat16)
    full = load_decoder(configuration, weights, dtype=torch.float32)
    found = reference_logits(half, configuration, tokens(100))
    expected = reference_logits(full, configuration, tokens(100))
    assert found.dtype == np.float32
    assert 0 < relative_error(found, expected) <= 3e-2


def test_sequences_in_one_step_do_not_see_each_other(checkpoint: Checkpoint) -> None:
    decoder, configuration = open_decoder(checkpoint("llama"))
    first, second = tokens(20), tokens(45)[20:]
    keys, values = empty_caches(configuration, num_blocks=4, form="float32")
    # Sequence 0 lies in blocks 3 and 1, sequence 1 in blocks 0 and 2; one padded token at the end.
    slots = [*range(48, 64), *range(16, 20), *range(16), *range(32, 41), -1]
    with torch.no_grad():
        logits, _, _ = decoder(
            torch.tensor([*first, *second, 0]),
            torch.tensor([*range(20), *range(25), 0]),
            torch.tensor(slots),
            torch.tensor([[3, 1], [0, 2]], dtype=torch.int32),
            torch.tensor([0, 20, 45], dtype=torch.int32),
            torch.tensor([20, 25], dtype=torch.int32),
            torch.tensor([19, 44]),
            keys,
            values,
        )
    alone = [reference_logits(decoder, configuration, prompt)[-1] for prompt in (first, second)]
    assert relative_error(logits.numpy(), np.stack(alone)) <= 1e-5


def test_a_tied_decoder_has_no_matrix_of_its_own_for_logits(checkpoint: Checkpoint) -> None:
    decoder, _ = open_decoder(checkpoint("llama_tied"))
    names = {name for name, _ in decoder.named_parameters()}
    assert "lm_head.weight" not in names
    assert "model.embed_tokens.weight" in names


def test_every_tensor_of_a_checkpoint_is_used_under_its_own_name(checkpoint: Checkpoint) -> None:
    for kind in DECODER_KINDS:
        decoder, _ = open_decoder(checkpoint(kind))
        names = {name for name, _ in decoder.named_parameters()}
        assert names == set(CheckpointWeights(checkpoint(kind)).names())
