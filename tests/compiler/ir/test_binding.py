"""From array shapes to symbol values."""

import pytest

from banyan.compiler.ir.binding import bind_symbols
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import InputError

T = symbol("T", 1, 8)
TYPES = {
    "x": TensorType((T, 4), DType.FLOAT32),
    "starts": TensorType((T + 1,), DType.INT32),
}


def test_a_symbol_takes_the_size_of_the_dim_that_is_just_that_symbol() -> None:
    assert bind_symbols(TYPES, {"x": (3, 4), "starts": (4,)}) == {"T": 3}


def test_a_symbol_is_found_in_a_multiple_of_it() -> None:
    types = {"x": TensorType((8 * T + 2,), DType.FLOAT32)}
    assert bind_symbols(types, {"x": (26,)}) == {"T": 3}
    with pytest.raises(InputError, match="a dim of 26 is 27"):
        bind_symbols(types, {"x": (27,)})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (3,), "starts": (4,)}, "2 dims are needed"),
        ({"x": (9, 4), "starts": (10,)}, "compiled for 1 to 8"),
        ({"x": (3, 5), "starts": (4,)}, "a dim of 4 is 5"),
        ({"x": (3, 4), "starts": (5,)}, "a dim of 4 is 5"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(
    shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        bind_symbols(TYPES, shapes)


def test_two_inputs_must_agree_about_a_symbol() -> None:
    types = {"a": TensorType((T,), DType.FLOAT32), "b": TensorType((T,), DType.FLOAT32)}
    with pytest.raises(InputError, match="another input has 2"):
        bind_symbols(types, {"a": (2,), "b": (3,)})
