import numpy as np
import pytest

from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType
from banyan.compiler.passes.canonical import canonical
from banyan.compiler.passes.pipeline import lower
from tests.compiler.comparing import assert_same_results


def after(text: str) -> str:
    return print_graph(canonical(parse_graph(text)))


def test_a_product_with_a_transposed_matrix_says_so() -> None:
    text = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[3, 4]
  %1 = input {name="w", packing=none, role="weight"} : f32[5, 4]
  %2 = permute %1 {order=(1, 0)} : f32[4, 5]
  %3 = dot %0, %2 {dtype=f32, transpose_b=false} : f32[3, 5]
  output y = %3
}
"""
    wanted = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[3, 4]
  %1 = input {name="w", packing=none, role="weight"} : f32[5, 4]
  %2 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[3, 5]
  output y = %2
}
"""
    assert after(text) == wanted


def test_a_product_with_a_matrix_transposed_twice_stays_plain() -> None:
    text = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[2, 3, 4]
  %1 = input {name="w", packing=none, role="argument"} : f32[2, 4, 5]
  %2 = permute %1 {order=(0, 2, 1)} : f32[2, 5, 4]
  %3 = dot %0, %2 {dtype=f32, transpose_b=true} : f32[2, 3, 5]
  output y = %3
}
"""
    assert "dot %0, %1 {dtype=f32, transpose_b=false}" in after(text)


def test_a_permutation_of_batch_dims_stays() -> None:
    text = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[2, 3, 4]
  %1 = input {name="w", packing=none, role="argument"} : f32[5, 4, 2]
  %2 = permute %1 {order=(2, 1, 0)} : f32[2, 4, 5]
  %3 = dot %0, %2 {dtype=f32, transpose_b=false} : f32[2, 3, 5]
  output y = %3
}
"""
    assert after(text) == text


def test_a_running_sum_moves_to_the_last_axis() -> None:
    text = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[2, 3]
  %1 = cumsum %0 {axis=0} : f32[2, 3]
  %2 = cumsum %0 {axis=1} : f32[2, 3]
  output y = %1
  output z = %2
}
"""
    wanted = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[2, 3]
  %1 = permute %0 {order=(1, 0)} : f32[3, 2]
  %2 = cumsum %1 {axis=1} : f32[3, 2]
  %3 = permute %2 {order=(1, 0)} : f32[2, 3]
  %4 = cumsum %0 {axis=1} : f32[2, 3]
  output y = %3
  output z = %4
}
"""
    assert after(text) == wanted


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_product_over_nothing_is_zeros(dtype: str) -> None:
    text = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : f32[20, 0]
  %1 = input {name="w", packing=none, role="weight"} : f32[16, 0]
  %2 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[20, 16]
  output y = %2
}
""".replace("f32", dtype)
    graph = lower(parse_graph(text))
    assert not any(node.attr("packing") for node in graph.inputs)
    kind = DType(dtype).numpy
    arrays = {"x": np.zeros((20, 0), kind), "w": np.zeros((16, 0), kind)}
    assert_same_results(parse_graph(text), graph, arrays)
    assert "dot" not in after(text)
