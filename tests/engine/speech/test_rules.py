"""The rules for times against transformers' own, on random logits."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from banyan.engine.speech.rules import allowed, choose
from banyan.models.speech.configuration import SpeechTokens

TOKENS = SpeechTokens(
    start=9,
    end=8,
    languages={},
    transcribe=None,
    translate=None,
    no_timestamps=11,
    previous=10,
    no_speech=None,
    suppressed=(2,),
    suppressed_first=(3, 8),
    latest_start=4,
)
VOCAB_SIZE = 24


def test_suppressed_tokens_never_come_and_some_never_first() -> None:
    logits = np.arange(VOCAB_SIZE, dtype=np.float32)
    first = allowed(logits, [], TOKENS, timestamps=False)
    assert np.flatnonzero(np.isinf(first)).tolist() == [2, 3, 8, *range(11, VOCAB_SIZE)]
    later = allowed(logits, [5], TOKENS, timestamps=False)
    assert np.flatnonzero(np.isinf(later)).tolist() == [2, *range(11, VOCAB_SIZE)]
    assert logits[2] == 2.0, "the model's own logits were changed"


@given(
    seed=st.integers(0, 10_000),
    written=st.lists(st.sampled_from([1, 4, 5, 7, 12, 13, 15, 20]), max_size=5),
)
def test_times_are_allowed_as_in_transformers(seed: int, written: list[int]) -> None:
    logits = np.random.default_rng(seed).normal(scale=3, size=VOCAB_SIZE).astype(np.float32)
    found = allowed(logits, written, TOKENS, timestamps=True)
    plain = logits.copy()
    plain[list(TOKENS.suppressed)] = -np.inf
    if not written:
        plain[list(TOKENS.suppressed_first)] = -np.inf
    generation = transformers.GenerationConfig(
        no_timestamps_token_id=11, eos_token_id=8, bos_token_id=8, max_initial_timestamp_index=4
    )
    reference = WhisperTimeStampLogitsProcessor(generation, begin_index=1)
    expected = reference(torch.tensor([[9, *written]]), torch.from_numpy(plain)[None])[0].numpy()
    assert np.array_equal(np.isfinite(found), np.isfinite(expected))


def test_the_likeliest_token_is_chosen_with_its_log_probability() -> None:
    row = np.log(np.array([0.25, 0.75], dtype=np.float32))
    token, logprob = choose(row, temperature=0.0, generator=np.random.default_rng(0))
    assert token == 1
    assert logprob == pytest.approx(np.log(0.75), abs=1e-6)


def test_a_temperature_draws_by_probability_and_never_what_is_forbidden() -> None:
    row = np.array([0.0, -np.inf, np.log(3.0)], dtype=np.float32)
    generator = np.random.default_rng(1)
    drawn = [choose(row, temperature=1.0, generator=generator)[0] for _ in range(2000)]
    assert drawn.count(1) == 0
    assert 0.70 < drawn.count(2) / 2000 < 0.80
