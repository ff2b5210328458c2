"""The whole engine on an OpenCL device: caches stay there, logits are copied back."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from banyan.devices.opencl import OpenClDevice
from tests.conftest import Checkpoint
from tests.models.checkpoints import DECODER_KINDS, VOCAB_SIZE
from tests.parity.recording import Answer, answer_greedily
from tests.pocl import open_pocl

PROMPT_LENGTHS = (1, 17, 70)
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}
"""Largest difference of a logit from the CPU's, relative to the largest logit."""


@pytest.fixture(scope="module")
def device() -> Iterator[OpenClDevice]:
    yield from open_pocl()


def answers_on(device: str, directory: Path, dtype: str, cache: Path) -> list[Answer]:
    generator = np.random.default_rng(3)
    prompts = [generator.integers(3, VOCAB_SIZE, length).tolist() for length in PROMPT_LENGTHS]
    answers, _ = answer_greedily(
        directory,
        prompts,
        dtype=dtype,
        num_new=24,
        token_budget=64,
        cache_directory=cache,
        device=device,
    )
    return answers


def check(kind: str, dtype: str, name: str, checkpoint: Checkpoint, cache: Path) -> None:
    directory = checkpoint(kind, dtype=dtype)
    wanted = answers_on("cpu", directory, dtype, cache)
    found = answers_on(name, directory, dtype, cache)
    for left, right in zip(found, wanted, strict=True):
        if dtype == "float32":
            assert left.token_ids == right.token_ids
        # In bfloat16 a nearly even choice may fall the other way: compare what led to the first.
        rows = slice(None) if left.token_ids == right.token_ids else slice(1)
        difference = np.abs(left.logits[rows] - right.logits[rows]).max()
        assert difference <= TOLERANCE[dtype] * np.abs(right.logits).max()


def test_greedy_tokens_in_float32_are_those_of_the_cpu(
    device: OpenClDevice, checkpoint: Checkpoint, program_cache: Path
) -> None:
    check("llama", "float32", device.name, checkpoint, program_cache)


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("kind", DECODER_KINDS)
def test_every_family_of_decoders_answers_as_on_the_cpu(
    kind: str, dtype: str, device: OpenClDevice, checkpoint: Checkpoint, program_cache: Path
) -> None:
    check(kind, dtype, device.name, checkpoint, program_cache)
