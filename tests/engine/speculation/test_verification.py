"""Guesses against rows of logits: what is kept, and what is remembered."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation.verification import FloatArray, verify
from banyan.engine.tokens.sampler import SequenceSampler

GREEDY = SamplingOptions(temperature=0.0)


def sampler_of(options: SamplingOptions = GREEDY) -> SequenceSampler:
    return SequenceSampler(options, (), end_token_ids=(), entropy=(1, 2))


def rows(*likeliest: int) -> FloatArray:
    return np.eye(8, dtype=np.float32)[list(likeliest)]


def kept(logits: FloatArray, *drafts: list[int], options: SamplingOptions = GREEDY) -> list[object]:
    samplers = [sampler_of(options) for _ in drafts]
    return [[s.token_id for s in one] for one in verify(logits, samplers, drafts)]


def test_right_guesses_are_kept_and_one_more_token_comes_with_them() -> None:
    assert kept(rows(3, 4, 5), [3, 4]) == [[3, 4, 5]]


def test_the_first_wrong_guess_is_replaced_and_nothing_behind_it_is_looked_at() -> None:
    assert kept(rows(3, 4, 5), [3, 7]) == [[3, 4]]
    assert kept(rows(3, 4, 5), [7, 4]) == [[3]]


def test_sequences_with_and_without_guesses_share_a_step() -> None:
    assert kept(rows(1, 2, 3, 4, 5, 6, 7), [], [2, 3], [7], []) == [[1], [2, 3, 4], [5], [7]]


def test_a_row_that_is_no_number_ends_the_walk_without_a_token() -> None:
    logits = rows(3, 4, 5)
    logits[1, 0] = np.nan
    assert kept(logits, [3, 0]) == [[3, None]]
    assert kept(logits, [3, 0], options=SamplingOptions(seed=1, top_k=1, logprobs=0)) == [[3, None]]


def test_a_penalty_counts_the_tokens_kept_on_the_way() -> None:
    logits = np.array([[2.0, 1.5, 0.0]] * 3, dtype=np.float32)
    options = SamplingOptions(temperature=0.0, presence_penalty=1.0)
    assert kept(logits, [0, 1], options=options) == [[0, 1, 0]]
    assert kept(logits, [0, 0], options=options) == [[0, 1]]


@given(
    st.integers(0, 5),
    st.lists(st.integers(0, 7), max_size=5),
    st.sampled_from(
        [
            GREEDY,
            SamplingOptions(seed=1),
            SamplingOptions(temperature=0.5, top_p=0.8, frequency_penalty=0.5),
            SamplingOptions(temperature=0.0, logprobs=2, repetition_penalty=1.5),
        ]
    ),
)
def test_what_is_kept_is_what_would_be_chosen_row_by_row(
    seed: int, guesses: list[int], options: SamplingOptions
) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (len(guesses) + 1, 8)).astype(np.float32)
    alone = sampler_of(options)
    expected = []
    for row, guess in zip(logits, [*guesses, None], strict=True):
        expected += verify(row[np.newaxis], [alone], [[]])[0]
        if expected[-1].token_id != guess:
            break
    assert verify(logits, [sampler_of(options)], [guesses]) == [expected]
