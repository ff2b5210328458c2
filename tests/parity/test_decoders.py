"""Every decoder family against transformers: logits and greedy tokens, through the whole engine.

Prompts of 1, 17, 300 and 1100 tokens run in one batch, cut into chunks, prefill mixed with decode.
"""

from dataclasses import dataclass
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

LEAST_ROUTER_GAP = 4e-3
"""In bfloat16 two experts nearer than this in probability may change places, here as there."""


def prompt_of(length: int) -> list[int]:
    generator = np.random.default_rng(length)
    return [int(token_id) for token_id in generator.integers(3, VOCAB_SIZE, length)]


@cache
def reference_model(directory: Path) -> Any:
    """The checkpoint in transformers, computed in float32 whatever it is stored as."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model.eval()


@dataclass(frozen=True, slots=True)
class Reference:
    """What transformers computes before each of N tokens, all tokens given.

    Attributes:
        logits: float32 [N, vocab].
        decided: [N] bool; False where some router of the token is nearly undecided between its
            last chosen and first rejected expert, so that a rounding may choose the other.
    """

    logits: NDArray[np.float32]
    decided: NDArray[np.bool_]


def reference(directory: Path, prompt: list[int], answer: Answer) -> Reference:
    """The logits before each token of `answer`."""
    model = reference_model(directory)
    routed = {"output_router_logits": True} if hasattr(model.config, "num_experts_per_tok") else {}
    with torch.no_grad():
        result = model(torch.tensor([prompt + answer.token_ids[:-1]]), **routed)
    logits = result.logits[0, len(prompt) - 1 :].float().numpy()
    decided = np.ones(len(logits), dtype=bool)
    for router_logits in result.router_logits if routed else ():
        chosen = model.config.num_experts_per_tok
        shares = router_logits[-len(logits) :].float().softmax(-1).sort(-1, descending=True).values
        decided &= (shares[:, chosen - 1] - shares[:, chosen] >= LEAST_ROUTER_GAP).numpy()
    return Reference(logits, decided)


# What sets the other families apart is the same in both types; `make wide` compares them all.
IN_BOTH_TYPES = ("llama", "qwen3", "mixtral")
IN_NEITHER = ("deepseek_v2",)
CASES = [
    pytest.param(
        kind,
        dtype,
        marks=[pytest.mark.wide]
        if kind in IN_NEITHER or (dtype == "bfloat16" and kind not in IN_BOTH_TYPES)
        else [],
    )
    for kind in DECODER_KINDS
    for dtype in ("float32", "bfloat16")
]


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_logits_and_greedy_tokens_are_those_of_transformers(
    kind: str, dtype: str, checkpoint: Checkpoint, program_cache: Path
) -> None:
    directory = checkpoint(kind, dtype=dtype)
    prompts = [prompt_of(length) for length in PROMPT_LENGTHS]
    answers, recording = answer_greedily(
        directory,
        prompts,
        dtype=dtype,
        num_new=NUM_NEW,
        token_budget=197,
        cache_directory=program_cache,
    )
    assert recording.largest_mix == len(prompts), "prefill never met decode in one step"
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = reference(directory, prompt, answer)
        kept = expected.decided if dtype == "bfloat16" else slice(None)
        assert expected.decided.mean() > 0.7, "too few tokens are left to compare"
        differences = np.abs(answer.logits - expected.logits)[kept].max(axis=1)
        worst = differences.max() / np.abs(expected.logits).max()
        assert worst <= TOLERANCE[dtype], f"{len(prompt)} tokens: {worst:.2e}"
        if dtype == "float32":
            # Each token is the reference's own choice, so the whole chain is its greedy answer.
            chosen = expected.logits.argmax(axis=-1).tolist()
            assert answer.token_ids == chosen, f"{len(prompt)} tokens"
