"""Quantised weights through the whole engine: imported, and rounded while loading."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan import LLM, Embedder, SamplingOptions
from banyan.foundation.errors import InputError
from tests.conftest import Checkpoint
from tests.models.quantisation.packers import MIXED, write_pair

PROMPTS = [[5, 6, 7, 8], list(range(30, 73)), [200]]
GREEDY = SamplingOptions(temperature=0.0, max_tokens=12, ignore_eos=True, logprobs=3)


def answers(model: Path, **options: Any) -> list[Any]:
    with LLM(
        model, dtype="float32", threads=2, max_model_len=128, max_num_seqs=4, **options
    ) as llm:
        return llm.generate(PROMPTS, GREEDY)


def logprobs(outputs: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([entry.logprob for output in outputs for entry in output.logprobs or ()])


def test_a_checkpoint_answers_like_the_weights_that_it_stands_for(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    quantised, plain = write_pair(checkpoint("llama"), tmp_path, MIXED)
    found, wanted = answers(quantised), answers(plain)
    assert [o.token_ids for o in found] == [o.token_ids for o in wanted]
    np.testing.assert_allclose(logprobs(found), logprobs(wanted), atol=2e-4)
    with pytest.raises(InputError, match="is quantised already, with compressed-tensors"):
        answers(quantised, quantization="int8")


@pytest.mark.parametrize(
    ("model", "options", "bound"),
    [
        ("llama", {"quantization": "int8"}, 0.05),
        ("llama", {"quantization": "int4"}, 0.5),
        ("llama_tied", {"quantization": "int8", "quantization_output": "int4"}, 0.5),
    ],
)
def test_weights_rounded_while_loading_answer_nearly_alike(
    model: str, options: dict[str, str], bound: float, checkpoint: Checkpoint
) -> None:
    plain = answers(checkpoint(model))
    rounded = answers(checkpoint(model), **options)
    first = [output.logprobs[0].logprob for output in plain]
    near = [output.logprobs[0].logprob for output in rounded]
    difference = np.abs(np.array(first) - np.array(near))
    assert 0 < difference.max() < bound


def test_a_cache_that_cannot_be_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="kv_cache_dtype='int3' is not known; use one of auto, "):
        LLM(checkpoint("llama"), kv_cache_dtype="int3")
    with pytest.raises(InputError, match="needs a model that computes in bfloat16"):
        LLM(checkpoint("llama"), kv_cache_dtype="bfloat16", threads=1)


def test_an_encoder_is_rounded_too(checkpoint: Checkpoint) -> None:
    texts = ["A banyan is one tree", "the capital of France"]
    with Embedder(checkpoint("bert"), threads=2) as plain:
        wanted = plain.embed(texts)
    with Embedder(checkpoint("bert"), threads=2, quantization="int8") as rounded:
        found = rounded.embed(texts)
    cosines = (found * wanted).sum(axis=1)
    assert np.all(cosines > 0.999)
    assert not np.array_equal(found, wanted)


def test_unknown_formats_are_refused_with_the_known_ones(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="quantization='int3' is not known; use one of int8, int4"):
        LLM(checkpoint("llama"), quantization="int3")
    with pytest.raises(InputError, match="quantization_output='int4' rounds nothing without"):
        LLM(checkpoint("llama"), quantization_output="int4")
    with pytest.raises(InputError, match="activation='fp4' is not known; use one of plain, int8"):
        LLM(checkpoint("llama"), activation="fp4")
    with pytest.raises(InputError, match="has ordinary weights, and activation='int8' is for qu"):
        LLM(checkpoint("llama"), activation="int8", threads=1)
