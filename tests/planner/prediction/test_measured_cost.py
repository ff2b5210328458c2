from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.planner.costs import Part, RooflineCost, decode_step, prefill_step
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.prediction.measured_cost import MeasuredCost
from tests.planner.prediction.rates import PRODUCTS, even_rates
from tests.planner.shapes import FAST, SLOW, dense_model

HIDDEN = 64


def tiny(num_layers: int = 2) -> ModelShape:
    """A model whose rates were measured: 4 heads of 64, 2 of them cached."""
    inner = 128
    dense = HIDDEN * (256 + 256) + 256 * HIDDEN + 2 * HIDDEN + 3 * HIDDEN * inner
    layer = LayerShape(dense, attention_width=256, cache_width=256, num_kv_heads=2)
    return ModelShape(
        name="tiny",
        hidden_size=HIDDEN,
        layers=(layer,) * num_layers,
        vocab_size=100,
        tied_embeddings=False,
    )


def costs(program_seconds: float = 0.0) -> MeasuredCost:
    return MeasuredCost({"fast": even_rates(program_seconds=program_seconds)})


def test_a_step_takes_what_its_products_take_and_little_more() -> None:
    model, step = tiny(), decode_step(8, 1)
    weights = 2 * (HIDDEN * 512 + 256 * HIDDEN + 3 * HIDDEN * 128) + 100 * HIDDEN
    seconds = costs().step_seconds(model, Part(0, 2), FAST, step)
    assert 1.0 <= seconds / (8 * weights / PRODUCTS) < 1.2


def test_starting_the_program_counts_once() -> None:
    model, step, part = tiny(), decode_step(1, 10), Part(0, 2)
    plain = costs().step_seconds(model, part, FAST, step)
    assert costs(0.5).step_seconds(model, part, FAST, step) == pytest.approx(plain + 0.5)


def test_nothing_to_compute_takes_no_time() -> None:
    nothing = Part(0, 2, dense=False, attention=False, experts=False)
    assert costs(0.5).step_seconds(tiny(), nothing, FAST, decode_step(1, 10)) == 0.0


def test_a_device_that_was_never_measured_is_predicted_from_its_peaks() -> None:
    model, part, step = dense_model(), Part(0, 4), decode_step(1, 10)
    expected = RooflineCost().step_seconds(model, part, SLOW, step)
    assert costs().step_seconds(model, part, SLOW, step) == expected
    assert costs().reason(model, SLOW) == "slow was never measured"


def test_a_form_that_was_never_measured_is_predicted_from_peaks() -> None:
    model = replace(tiny(), weight_dtype="int4")
    assert costs().reason(model, FAST) == "fast was never measured with int4 weights"
    assert costs().reason(tiny(), FAST) is None
    quantised = replace(tiny(), cache_dtype="int8")
    assert costs().reason(quantised, FAST) == "fast was never measured with int8 keys"


@given(st.integers(1, 64), st.integers(1, 255), st.integers(1, 3))
def test_parts_take_as_long_as_the_whole(sequences: int, context: int, border: int) -> None:
    model, step, found = tiny(4), decode_step(sequences, context), costs()
    whole = found.step_seconds(model, Part(0, 4), FAST, step)
    parts = (Part(0, border), Part(border, 4))
    assert sum(found.step_seconds(model, p, FAST, step) for p in parts) == pytest.approx(whole)
    kinds = (Part(0, 4, attention=False), Part(0, 4, dense=False, experts=False))
    assert sum(found.step_seconds(model, p, FAST, step) for p in kinds) == pytest.approx(whole)


@given(st.integers(1, 500), st.integers(1, 500))
def test_more_tokens_take_no_less_time(one: int, more: int) -> None:
    model, part, found = tiny(), Part(0, 2), costs()
    short = found.step_seconds(model, part, FAST, prefill_step(one))
    assert found.step_seconds(model, part, FAST, prefill_step(one + more)) >= short
