import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.passes.pack_products import pack_products
from banyan.compiler.passes.pipeline import lower
from tests.compiler.comparing import assert_same_results

T = symbol("T", 1, 64)


def product_graph(left: tuple[Dim, ...], right: tuple[Dim, ...], dtype: DType) -> Graph:
    """Products of `left` with `right` [..., N, K] and with its transpose [..., K, N]."""
    builder = Builder()
    turned = (*right[:-2], right[-1], right[-2])
    a, b, c = (
        builder.input(name, TensorType(shape, dtype))
        for name, shape in (("a", left), ("b", right), ("c", turned))
    )
    first = builder.add("dot", (a, b), transpose_b=True, dtype=dtype)
    second = builder.add("dot", (a, c), dtype=DType.FLOAT32)
    return Graph("products", (a, b, c), (Output("first", first), Output("second", second)))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_products_with_panels_are_the_same_products(batch: tuple[int, ...], dtype: DType) -> None:
    graph = product_graph((*batch, T, 37), (*batch, 21, 37), dtype)
    packed = pack_products(graph)
    assert operations_used(packed)["packed_dot"] == 2
    generator = np.random.default_rng(5)
    shapes = {"a": (*batch, 19, 37), "b": (*batch, 21, 37), "c": (*batch, 37, 21)}
    arrays = {n: generator.normal(size=s).astype(dtype.numpy) for n, s in shapes.items()}
    assert_same_results(graph, packed, arrays)
    assert_same_results(graph, lower(graph), arrays)


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
def test_a_stack_of_matrices_may_be_as_high_as_it_likes(dtype: DType) -> None:
    graph = product_graph((T, 19, 37), (T, 21, 37), dtype)
    packed = pack_products(graph)
    assert operations_used(packed)["packed_dot"] == 2
    generator = np.random.default_rng(5)
    shapes = {"a": (3, 19, 37), "b": (3, 21, 37), "c": (3, 37, 21)}
    arrays = {n: generator.normal(size=s).astype(dtype.numpy) for n, s in shapes.items()}
    assert_same_results(graph, packed, arrays)
    assert_same_results(graph, lower(graph), arrays)


def test_few_rows_and_sizes_that_change_are_left_alone() -> None:
    for left, right in (((8, 32), (64, 32)), ((64, 32), (T, 32)), ((64, T), (64, T))):
        graph = product_graph(left, right, DType.FLOAT32)
        assert "packed_dot" not in operations_used(pack_products(graph))
