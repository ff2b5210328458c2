import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.costs import Part, RooflineCost, decode_step, prefill_step
from banyan.planner.model_shape import LayerShape, ModelShape
from tests.planner.shapes import FAST, dense_model

IDEAL = RooflineCost(memory_efficiency=1.0, compute_efficiency=1.0)
MIDDLE = Part(1, 3)


def test_one_token_takes_the_time_of_the_weights_and_the_cache() -> None:
    # Two layers: 2 MB of weights each, 256 bytes a cached token; two launches.
    seconds = IDEAL.step_seconds(dense_model(), MIDDLE, FAST, decode_step(1, 1000))
    assert seconds == pytest.approx((2 * 2e6 + 2 * 256 * 1000) / 1e11 + 2e-6)


def test_a_long_prompt_takes_the_time_of_its_arithmetic() -> None:
    seconds = IDEAL.step_seconds(dense_model(), MIDDLE, FAST, prefill_step(1000))
    pairs = 1000 * 1001 / 2
    assert seconds == pytest.approx((2 * 2e6 * 1000 + 2 * 4 * 256 * pairs) / 1e13 + 2e-6)


def test_tied_embeddings_are_held_once_where_both_ends_meet() -> None:
    model = dense_model()
    table = 1000 * 256 * 2
    whole, first = Part(0, 4), Part(0, 2)
    assert IDEAL.weight_bytes(model, whole) == 4 * 2e6 + table
    assert IDEAL.weight_bytes(model, first) == 2 * 2e6 + table
    assert IDEAL.weight_bytes(model, MIDDLE) == 2 * 2e6


def test_experts_are_read_as_far_as_they_are_visited() -> None:
    layer = LayerShape(0, 0, 0, expert_weights=100, num_experts=8, top_k=2)
    model = ModelShape(
        name="sparse", hidden_size=4, layers=(layer,) * 4, vocab_size=10, tied_embeddings=False
    )
    one = IDEAL.step_seconds(model, MIDDLE, FAST, decode_step(1, 0)) - 2e-6
    assert one == pytest.approx(2 * 2 * 100 * 2 / 1e11)
    apart = Part(1, 3, experts=False)
    assert IDEAL.weight_bytes(model, apart) == 0
    assert IDEAL.step_seconds(model, apart, FAST, decode_step(1, 0)) == 2e-6


@given(
    cut=st.integers(1, 3),
    num_sequences=st.integers(1, 64),
    context=st.integers(0, 4096),
)
def test_memory_bound_parts_add_up_to_the_whole(cut: int, num_sequences: int, context: int) -> None:
    model, step = dense_model(), decode_step(num_sequences, context)
    attention = Part(0, 4, dense=False)
    seconds = IDEAL.step_seconds(model, attention, FAST, step)
    parts = [Part(0, cut, dense=False), Part(cut, 4, dense=False)]
    assert seconds == pytest.approx(
        sum(IDEAL.step_seconds(model, part, FAST, step) for part in parts)
    )
    held = [IDEAL.cache_bytes_per_token(model, part) for part in (*parts, attention)]
    assert held[0] + held[1] == held[2] == 4 * 256
