import pytest

from banyan.compiler.ir.attributes import has, integer, integers, number, size
from banyan.compiler.ir.graph import Builder, Node
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError

N = symbol("n", 1, 9)


def sliced() -> Node:
    builder = Builder()
    x = builder.input("x", TensorType((N, 4), DType.FLOAT32))
    return builder.add("slice", (x,), axis=0, start=0, stop=N, step=1)


def test_attributes_are_read_with_their_type() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((2, 4), DType.FLOAT32))
    assert integer(sliced(), "axis") == 0
    assert size(sliced(), "stop") == N
    assert integers(builder.add("permute", (x,), order=(1, 0)), "order") == (1, 0)
    assert size(sliced(), "step") == 1
    assert number(builder.add("constant", value=0.5, dtype=DType.FLOAT32), "value") == 0.5
    product = builder.add("dot", (x, x), transpose_b=True, dtype=DType.FLOAT32)
    assert has(product, "transpose_b")
    assert not has(product, "packed")


def test_an_attribute_of_another_type_is_named() -> None:
    builder = Builder()
    grown = builder.add("expand", (sliced(),), shape=(3, N, 4))
    with pytest.raises(GraphError, match=r"slice: stop is .* not an integer"):
        integer(sliced(), "stop")
    with pytest.raises(GraphError, match="slice: axis is 0, not a tuple"):
        integers(sliced(), "axis")
    with pytest.raises(GraphError, match=r"expand: shape is .* not integers"):
        integers(grown, "shape")
    with pytest.raises(GraphError, match=r"expand: shape is .* not a size"):
        size(grown, "shape")
    with pytest.raises(GraphError, match=r"expand: shape is .* not a number"):
        number(grown, "shape")
