"""Every decoder family against transformers: logits and greedy tokens, through the whole engine.

Prompts of 1, 17, 300 and 1100 tokens run in one batch, cut into chunks, prefill mixed with decode.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from tests.conftest import Checkpoint
from tests.models.checkpoints import DECODER_KINDS, VOCAB_SIZE
from tests.parity.recording import Answer, answer_greedily

PROMPT_LENGTHS = (1, 17, 300, 1100)
NUM_NEW = 64
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest difference of a logit, relative to the largest logit."""


def prompt_of(length: int) -> list[int]:
    generator = np.random.default_rng(length)
    return [int(token_id) for token_id in generator.integers(3, VOCAB_SIZE, length)]


@cache
def reference_model(directory: Path) -> Any:
    """The checkpoint in transformers, computed in float32 whatever it is stored as."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval()


def reference_logits(directory: Path, prompt: list[int], answer: Answer) -> NDArray[np.float32]:
    """Logits [N, vocab] before each token of `answer`, all tokens given."""
    tokens = torch.tensor([prompt + answer.token_ids[:-1]])
    with torch.no_grad():
        logits = reference_model(directory)(tokens).logits
    kept: NDArray[np.float32] = logits[0, len(prompt) - 1 :].float().numpy()
    return kept


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", DECODER_KINDS)
def test_logits_and_greedy_tokens_are_those_of_transformers(
    kind: str, dtype: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    directory = checkpoint(kind, dtype=dtype)
    prompts = [prompt_of(length) for length in PROMPT_LENGTHS]
    answers, recording = answer_greedily(
        directory,
        prompts,
        dtype=dtype,
        num_new=NUM_NEW,
        token_budget=197,
        cache_directory=tmp_path,
    )
    assert recording.largest_mix == len(prompts), "prefill never met decode in one step"
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = reference_logits(directory, prompt, answer)
        difference = np.abs(answer.logits - expected).max() / np.abs(expected).max()
        assert difference <= TOLERANCE[dtype], f"{len(prompt)} tokens: {difference:.2e}"
        if dtype == "float32":
            # Each token is the reference's own choice, so the whole chain is its greedy answer.
            assert answer.token_ids == expected.argmax(axis=-1).tolist(), f"{len(prompt)} tokens"
