"""The choice of a token against probabilities computed in the plain, slow way."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from banyan.engine.sampling import SamplingOptions
from banyan.engine.tokens.sampler import SequenceSampler, largest, sample, token_logprob


def sampler(entropy: int = 1, prompt: tuple[int, ...] = (), **options: Any) -> SequenceSampler:
    return SequenceSampler(
        SamplingOptions(**options), prompt, end_token_ids=(0,), entropy=(entropy,)
    )


def row(*values: float) -> NDArray[np.float32]:
    return np.array([values], dtype=np.float32)


def shares(num_draws: int, logits: NDArray[np.float32], **options: Any) -> NDArray[np.float64]:
    """How often each token is drawn."""
    drawing = sampler(**options)
    counts = np.zeros(logits.shape[1])
    for _ in range(num_draws):
        token_id = sample(logits, [drawing])[0].token_id
        assert token_id is not None
        counts[token_id] += 1
    return counts / num_draws


def drawn(logits: NDArray[np.float32], **options: Any) -> set[int]:
    return set(np.flatnonzero(shares(200, logits, **options)).tolist())


def test_greedy_takes_the_largest_of_each_row_and_the_first_of_equals() -> None:
    logits = np.array([[0, 3, 1], [5, 5, 4]], dtype=np.float32)
    chosen = sample(logits, [sampler(temperature=0.0), sampler(temperature=0.0)])
    assert [token.token_id for token in chosen] == [1, 0]


def test_a_row_of_no_numbers_gives_no_token_and_spoils_no_other() -> None:
    logits = np.array([[0, math.nan, 1], [5, 6, 4]], dtype=np.float32)
    cold: dict[str, Any] = {"temperature": 0.0}
    for options in (cold, {"temperature": 1e-3, "seed": 1}):
        chosen = sample(logits, [sampler(**options), sampler(**options)])
        assert [token.token_id for token in chosen] == [None, 1]


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"seed": 1},
        {"seed": 1, "top_k": 2},
        {"seed": 1, "min_p": 0.1},
        {"seed": 1, "top_p": 0.5},
    ],
)
def test_no_token_is_chosen_where_every_one_is_forbidden_or_infinite(
    options: dict[str, Any],
) -> None:
    forbidden = SequenceSampler(
        SamplingOptions(min_tokens=1, **options), (), end_token_ids=(0, 1, 2), entropy=(1,)
    )
    assert sample(row(1.0, 2.0, 3.0), [forbidden])[0].token_id is None
    infinite = sampler(logprobs=1, **options)
    assert sample(row(1.0, math.inf, math.inf), [infinite])[0].token_id is None


@pytest.mark.parametrize("options", [{"top_k": 2}, {"min_p": 0.1}, {"top_p": 0.5}])
def test_the_most_extreme_options_still_choose_a_token(options: dict[str, Any]) -> None:
    logits = row(1.0, -88.0, 88.0, 0.0)
    for temperature in (1.1e-5, 100.0):
        for penalty in (0.01, 100.0):
            extreme = sampler(
                temperature=temperature,
                repetition_penalty=penalty,
                min_tokens=9,
                prompt=(1, 2, 3),
                **options,
            )
            assert sample(logits, [extreme])[0].token_id in {1, 2, 3}


def test_temperature_one_draws_from_the_softmax() -> None:
    weights = np.array([0.5, 0.3, 0.2])
    logits = np.log(weights).astype(np.float32)[None]
    assert shares(4000, logits) == pytest.approx(weights, abs=0.03)


def test_a_low_temperature_sharpens_and_a_high_one_flattens() -> None:
    logits = row(0.0, 1.0)
    assert shares(2000, logits, temperature=0.5)[1] == pytest.approx(0.881, abs=0.03)
    assert shares(2000, logits, temperature=2.0)[1] == pytest.approx(0.622, abs=0.04)


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert drawn(row(1e4, 1e4 - 1), temperature=1e-4) == {0}


WEIGHTS = np.log(np.array([[0.1, 0.4, 0.2, 0.3]], dtype=np.float32))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, {1, 3}),
        ({"top_p": 0.39}, {1}),
        ({"top_p": 0.69}, {1, 3}),
        ({"top_p": 0.75}, {1, 2, 3}),
        ({"min_p": 0.6}, {1, 3}),
        ({"min_p": 1.0}, {1}),
        ({"top_k": 2, "top_p": 0.5}, {1}),
        ({"top_k": 2, "top_p": 0.6}, {1, 3}),
        ({"min_p": 0.4, "top_k": 3, "top_p": 0.9}, {1, 2, 3}),
        ({"min_p": 0.4, "top_p": 0.77}, {1, 3}),
        ({"top_k": 100}, {0, 1, 2, 3}),
    ],
)
def test_truncation_keeps_the_right_tokens(options: dict[str, Any], kept: set[int]) -> None:
    assert drawn(WEIGHTS, **options) == kept


def test_a_nucleus_wider_than_the_first_candidates_is_found() -> None:
    logits = np.zeros((1, 5000), dtype=np.float32)
    assert len(drawn(logits, top_p=0.9)) > 100


def plain_distribution(logits: NDArray[np.float32], options: SamplingOptions) -> Any:
    """Probabilities after temperature, min-p, top-k and top-p, by sorting everything."""
    values = logits.astype(np.float64) / options.temperature
    weights = np.exp(values - values.max())
    weights[weights < options.min_p] = 0.0
    order = np.argsort(-weights, kind="stable")
    if options.top_k:
        weights[order[options.top_k :]] = 0.0
    weights /= weights.sum()
    before = np.cumsum(weights[order]) - weights[order]
    weights[order[before >= options.top_p]] = 0.0
    return weights / weights.sum()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-40, 40), min_size=2, max_size=30, unique=True),
    st.sampled_from([1.0, 0.93, 0.51, 0.07]),
    st.sampled_from([0, 1, 3, 40]),
    st.sampled_from([0.0, 0.04, 0.6]),
    st.integers(0, 2**32),
)
def test_only_tokens_of_the_plain_distribution_are_drawn(
    tenths: list[int], top_p: float, top_k: int, min_p: float, seed: int
) -> None:
    logits = np.array([tenths], dtype=np.float32) / np.float32(10)
    options: dict[str, Any] = {"top_p": top_p, "top_k": top_k, "min_p": min_p, "temperature": 0.8}
    expected = plain_distribution(logits[0], SamplingOptions(**options))
    drawing = sampler(entropy=seed, **options)
    for _ in range(8):
        token_id = sample(logits, [drawing])[0].token_id
        assert token_id is not None
        assert expected[token_id] > 0


def test_the_same_entropy_gives_the_same_tokens_whatever_else_is_in_the_batch() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20, 50)).astype(np.float32)
    alone, among = sampler(entropy=7), sampler(entropy=7)
    others = [sampler(entropy=8), sampler(temperature=0.0), sampler(entropy=9, top_k=3)]
    for step in range(20):
        batch = logits[[step, 3, 4, 5]]
        expected = sample(logits[step : step + 1], [alone])[0]
        assert sample(batch, [among, *others])[0] == expected


def test_different_entropy_gives_different_tokens() -> None:
    logits = np.zeros((1, 1000), dtype=np.float32)
    first, second = sampler(entropy=1), sampler(entropy=2)
    assert [sample(logits, [first]) for _ in range(4)] != [
        sample(logits, [second]) for _ in range(4)
    ]


def greedy_ids(logits: NDArray[np.float32], count: int, **options: Any) -> list[int | None]:
    chosen = sampler(temperature=0.0, **options)
    return [sample(logits, [chosen])[0].token_id for _ in range(count)]


def test_a_presence_penalty_is_paid_once() -> None:
    assert greedy_ids(row(0.0, 2.0, 1.5, 1.0), 4, presence_penalty=0.8) == [1, 2, 1, 1]


def test_a_frequency_penalty_is_paid_each_time() -> None:
    assert greedy_ids(row(0.0, 2.0, 1.3), 5, frequency_penalty=0.5) == [1, 1, 2, 1, 2]


def test_a_repetition_penalty_scales_the_bias_too() -> None:
    # Token 1: (1 + 4) / 2 = 2.5 loses to 3; the other way round 1 / 2 + 4 = 4.5 would win.
    options: dict[str, Any] = {"logit_bias": {1: 4.0}, "repetition_penalty": 2.0}
    assert greedy_ids(row(0.0, 1.0, 3.0), 1, prompt=(1,), **options) == [2]


def test_the_prompt_is_looked_at_only_when_a_token_is_chosen() -> None:
    prompt = iter([1])
    waiting = SequenceSampler(
        SamplingOptions(temperature=0.0, repetition_penalty=2.0),
        prompt,
        end_token_ids=(),
        entropy=(1,),
    )
    assert next(prompt) == 1
    assert sample(row(0.0, 1.0), [waiting])[0].token_id == 1


def test_a_repetition_penalty_counts_the_prompt_and_works_on_negative_logits() -> None:
    assert greedy_ids(row(-9.0, 3.0, 2.0), 1, repetition_penalty=2.0, prompt=(1,)) == [2]
    assert greedy_ids(row(-9.0, -1.0, -1.5), 1, repetition_penalty=2.0, prompt=(1,)) == [2]


def test_the_other_penalties_leave_the_prompt_alone() -> None:
    assert greedy_ids(row(-9.0, 3.0, 2.0), 1, presence_penalty=2.0, prompt=(1,)) == [1]


def test_a_bias_makes_a_token_win_or_lose() -> None:
    assert greedy_ids(row(1.0, 2.0, 3.0), 1, logit_bias={0: 5.0, 2: -100.0}) == [0]


def test_the_end_is_impossible_before_the_minimum_length() -> None:
    assert greedy_ids(row(9.0, 2.0, 1.0), 3, min_tokens=2) == [1, 1, 0]


def test_only_allowed_tokens_come_and_their_log_probability_stays_the_model_s() -> None:
    assert greedy_ids(row(1.0, 2.0, 3.0), 2, allowed_token_ids=[1, 0]) == [1, 1]
    assert drawn(row(1.0, 2.0, 3.0, 3.0), allowed_token_ids=[0, 1, 2]) == {0, 1, 2}


def test_a_banned_sequence_is_not_completed_and_its_parts_may_come() -> None:
    logits = row(1.0, 2.0, 3.0)
    assert greedy_ids(logits, 3, bad_token_sequences=[[2]]) == [1, 1, 1]
    # 2 2 is banned: every second token is the next best, after which 2 may come again.
    assert greedy_ids(logits, 4, bad_token_sequences=[[2, 2]]) == [2, 1, 2, 1]
    assert greedy_ids(logits, 6, bad_token_sequences=[[2, 2, 2], [2, 1]]) == [2, 2, 0, 2, 2, 0]


def test_a_prompt_does_not_begin_a_banned_sequence() -> None:
    assert greedy_ids(row(1.0, 2.0), 1, prompt=(1,), bad_token_sequences=[[1, 1]]) == [1]


def test_the_rank_of_a_token_is_its_place_among_all() -> None:
    assert [token_logprob(row(1.0, 3.0, 2.0, 2.0)[0], i, 0).rank for i in range(4)] == [4, 1, 2, 2]


def test_the_model_s_logits_are_not_changed_by_penalties() -> None:
    logits = row(1.0, 2.0)
    greedy_ids(logits, 2, presence_penalty=1.0, logit_bias={0: 1.0}, min_tokens=1)
    assert logits.tolist() == [[1.0, 2.0]]


def test_more_different_tokens_than_the_first_room_are_remembered() -> None:
    chosen = greedy_ids(np.zeros((1, 200), dtype=np.float32), 200, frequency_penalty=1.0)
    assert chosen == list(range(200))


def test_log_probabilities_are_the_model_s_own() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.125, 0.125]], dtype=np.float32))
    options: dict[str, Any] = {"temperature": 0.0, "logprobs": 2, "logit_bias": {0: -50.0}}
    token = sample(logits, [sampler(**options)])[0]
    assert token.token_id == 1
    assert token.logprob is not None
    assert token.logprob.logprob == pytest.approx(math.log(0.25))
    assert [token_id for token_id, _ in token.logprob.top] == [0, 1]
    assert [value for _, value in token.logprob.top] == pytest.approx(
        [math.log(0.5), math.log(0.25)]
    )


def test_no_likeliest_others_are_given_when_none_are_asked_for() -> None:
    assert token_logprob(row(1.0, 1.0)[0], 0, 0).top == ()


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(0, 40))
def test_the_largest_are_in_order_and_equal_ones_by_place(values: list[int], count: int) -> None:
    places = largest(np.array(values, dtype=np.float32), count).tolist()
    expected = sorted(range(len(values)), key=lambda place: (-values[place], place))
    assert places == expected[:count]
