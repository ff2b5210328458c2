import ml_dtypes
import numpy as np
import pytest

from banyan.foundation.errors import ModelError
from banyan.models.quantisation.feedback import round_for_rows
from banyan.models.quantisation.rounding import Rounding, require_finite, round_weight
from banyan.models.quantisation.scheme import LinearScheme, Parts, dequantize

RANDOM = np.random.default_rng(11)
WEIGHT = RANDOM.normal(size=(70, 128)).astype(np.float32)


def error_of(scheme: LinearScheme, weight: np.ndarray = WEIGHT, **options: object) -> float:
    parts = round_weight(weight, scheme, Rounding(**options))  # type: ignore[arg-type]
    for part, shape in scheme.shapes(*weight.shape).items():
        assert parts[part].shape == shape
    difference = dequantize(scheme, parts) - weight
    return float(np.linalg.norm(difference) / np.linalg.norm(weight))


@pytest.mark.parametrize(
    ("scheme", "bound"),
    [
        (LinearScheme("int8", 128), 0.009),
        (LinearScheme("fp8", 128), 0.027),
        (LinearScheme("int4", 32), 0.092),
        (LinearScheme("int4", 128), 0.115),
        (LinearScheme("int4", 32, zeros=True), 0.09),
    ],
    ids=str,
)
def test_the_error_of_normal_weights_is_that_of_the_format(
    scheme: LinearScheme, bound: float
) -> None:
    assert 0.6 * bound < error_of(scheme) < bound


def test_cutting_the_range_is_better_than_the_full_range() -> None:
    full = np.abs(WEIGHT.reshape(70, 4, 32)).max(-1, keepdims=True) / 7
    plain = np.clip(np.rint(WEIGHT.reshape(70, 4, 32) / full), -8, 7) * full
    naive = np.linalg.norm(plain.reshape(70, 128) - WEIGHT) / np.linalg.norm(WEIGHT)
    assert error_of(LinearScheme("int4", 32)) < 0.93 * naive


def test_zeros_help_weights_that_lie_on_one_side() -> None:
    positive = np.abs(WEIGHT) + 0.5
    with_zeros = error_of(LinearScheme("int4", 32, zeros=True), positive)
    assert with_zeros < 0.7 * error_of(LinearScheme("int4", 32), positive)


def test_what_matters_more_is_kept_better() -> None:
    importance = np.where(np.arange(128) % 32 < 4, 100, 1).astype(np.float32)
    scheme = LinearScheme("int4", 32)
    even, weighted = (
        dequantize(scheme, round_weight(WEIGHT, scheme, Rounding(importance=chosen))) - WEIGHT
        for chosen in (None, importance)
    )
    loud = importance == 100
    assert np.linalg.norm(weighted[:, loud]) < np.linalg.norm(even[:, loud])


def test_zero_weights_stay_zero_and_whole_ones_exact() -> None:
    scheme = LinearScheme("int4", 2)
    weight = np.array([[0, 0, -7, 3], [1, 0, 0, 14]], np.float32)
    assert np.array_equal(dequantize(scheme, round_weight(weight, scheme)), weight)


def test_scales_are_those_that_will_be_kept() -> None:
    scheme = LinearScheme("int8", 128)
    scales = round_weight(WEIGHT, scheme, Rounding(scale_dtype=np.dtype(ml_dtypes.bfloat16)))[
        "scales"
    ]
    assert np.array_equal(scales, scales.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize("zeros", [False, True])
def test_later_columns_make_up_for_earlier_ones(zeros: bool) -> None:
    """Rows with directions in common, as the rows of models have; compared on other rows."""
    mixing = RANDOM.normal(size=(128, 128)) * np.exp(RANDOM.normal(size=(128, 1)))
    rows, others = (
        (RANDOM.normal(size=(count, 128)) @ mixing).astype(np.float32) for count in (1000, 200)
    )
    scheme = LinearScheme("int4", 32, zeros=zeros)

    def error(parts: Parts) -> float:
        return float(np.linalg.norm(others @ (dequantize(scheme, parts) - WEIGHT).T))

    with_feedback = round_for_rows(WEIGHT, scheme, rows, np.dtype(np.float32))
    assert with_feedback.keys() == scheme.shapes(70, 128).keys()
    assert error(with_feedback) < 0.75 * error(round_weight(WEIGHT, scheme))


def test_rows_of_zeros_round_like_no_rows() -> None:
    scheme = LinearScheme("int4", 32)
    parts = round_for_rows(WEIGHT, scheme, np.zeros((4, 128), np.float32), np.dtype(np.float32))
    plain = round_weight(WEIGHT, scheme)
    assert np.array_equal(parts["weight"], plain["weight"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_no_scale_can_hold_is_named(value: float) -> None:
    require_finite(WEIGHT, "mlp.up")
    broken = WEIGHT.astype(ml_dtypes.bfloat16)
    broken[41, 3] = value
    with pytest.raises(ModelError, match=r"row 41 of the weight of layer mlp.up holds NaN or inf"):
        require_finite(broken, "mlp.up")
