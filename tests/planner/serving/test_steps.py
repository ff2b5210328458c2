import pytest

from banyan.planner.serving.steps import Load
from banyan.planner.workload import Workload

LOAD = Load(Workload(prompt_tokens=1000, answer_tokens=100), prefill_chunk=512)


def test_a_prompt_is_cut_into_equal_chunks() -> None:
    assert (LOAD.num_chunks, LOAD.chunk) == (2, 500)


def test_each_answer_token_brings_its_share_of_prompts() -> None:
    # 8 sequences bring 80 prompt tokens a step: every sixth step or so takes a chunk along.
    (plain, step), (share, mixed) = LOAD.mean_step(8, "both")
    assert share == pytest.approx(80 / 500)
    assert plain + share == pytest.approx(1.0)
    assert (step.num_tokens, mixed.num_tokens) == (8, 508)


def test_many_sequences_bring_more_than_a_chunk_in_each_step() -> None:
    ((share, step),) = LOAD.mean_step(100, "both")
    assert share == 1.0
    assert step.num_tokens == 100 + 1000


def test_what_is_in_the_prefix_cache_is_not_computed_again() -> None:
    load = Load(
        Workload(prompt_tokens=1000, answer_tokens=100, shared_prompt_share=0.9), prefill_chunk=512
    )
    assert load.new_prompt_tokens == 100
    step = load.chunk_step(0)
    assert step.attended_pairs == 100 * 900 + 100 * 101 / 2


def test_one_sequence_needs_room_for_all_of_it_the_others_for_their_mean() -> None:
    assert LOAD.cached_tokens(1) == 1100
    assert LOAD.cached_tokens(3) == 1100 + 2 * 1050
