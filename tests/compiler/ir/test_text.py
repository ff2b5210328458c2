"""Printing, parsing, and equality of graphs."""

import pytest
from hypothesis import given, settings

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.text import print_graph, print_kernel
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.pipeline import lower
from banyan.foundation.errors import GraphError
from tests.compiler.ir.equality import same_graph
from tests.compiler.ir.sample_kernels import norm_graph, row_squares_graph, row_squares_kernel
from tests.compiler.random_graphs import cases
from tests.compiler.random_values import Case

NORM_TEXT = """\
graph norm {
  symbol T in [1, 64]
  %0 = input {name="x", packing=none, role="argument"} : f32[T, 8]
  %1 = input {name="norm.weight", packing=none, role="weight"} : f32[8]
  %2 = input {name="last", packing=none, role="state"} : f32[T, 8]
  %3 = mul %0, %0 : f32[T, 8]
  %4 = reduce %3 {axes=(1), kind="sum"} : f32[T]
  %5 = constant {dtype=f32, value=1e-05} : f32[]
  %6 = expand %5 {shape=([T])} : f32[T]
  %7 = add %4, %6 : f32[T]
  %8 = rsqrt %7 : f32[T]
  %9 = reshape %8 {shape=([T], 1)} : f32[T, 1]
  %10 = expand %9 {shape=([T], 8)} : f32[T, 8]
  %11 = mul %0, %10 : f32[T, 8]
  %12 = expand %1 {shape=([T], 8)} : f32[T, 8]
  %13 = mul %11, %12 : f32[T, 8]
  %14 = add %2, %0 : f32[T, 8]
  output y = %13
  output last = %14 updates last
}
"""


def test_a_graph_prints_one_line_for_each_node() -> None:
    assert print_graph(norm_graph()) == NORM_TEXT


@pytest.mark.parametrize("graph", [norm_graph(), row_squares_graph()], ids=["norm", "kernel"])
def test_parsing_what_was_printed_gives_the_same_graph(graph: Graph) -> None:
    parsed = parse_graph(print_graph(graph))
    assert same_graph(parsed, graph)
    assert print_graph(parsed) == print_graph(graph)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_random_graphs_survive_printing_and_parsing_whole_and_lowered(case: Case) -> None:
    for graph in (case.graph, lower(case.graph)):
        assert same_graph(parse_graph(print_graph(graph)), graph)


def test_attributes_of_every_kind_survive() -> None:
    builder = Builder()
    t = symbol("T", 1, 9)
    x = builder.input("x", TensorType((t, 2 * t + 1), DType.BFLOAT16))
    y = builder.add(
        "extern",
        (x,),
        target='aten.odd "name"',
        static="",
        types=(TensorType(((t + 3) // 4, 3), DType.INT8),),
    )
    low = builder.add("constant", value=float("-inf"), dtype=DType.FLOAT32)
    graph = Graph("odd", (x,), (Output("y", y), Output("low", low)))
    assert same_graph(parse_graph(print_graph(graph)), graph)


def test_equal_kernels_made_apart_print_alike() -> None:
    assert print_kernel(row_squares_kernel(Builder())) == print_kernel(
        row_squares_kernel(Builder())
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mul %0, %0", "add %0, %0"),
        ("value=1e-05", "value=1e-06"),
        ("updates last", ""),
        ("output y = %13", "output z = %13"),
        ("graph norm", "graph form"),
        ("mul %11, %12", "mul %12, %11"),
    ],
)
def test_graphs_that_differ_anywhere_are_not_the_same(old: str, new: str) -> None:
    assert not same_graph(parse_graph(NORM_TEXT.replace(old, new)), norm_graph())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("%3 = mul %0, %0 : f32[T, 8]", "%3 = mul %0, %0 : f32[T, 9]", "is printed as"),
        ("mul %0, %0", "mul %0, %99", "used before it is defined"),
        ("f32[T, 8]\n  %1", "f32[Q, 8]\n  %1", "unknown symbol 'Q'"),
        ("graph norm {", "graph norm (", "expected '{'"),
        ("symbol T in", "symbol 7 in", "expected a word"),
        ("value=1e-05", "value=*", "is no attribute"),
        ("output last", "?", "no token here"),
    ],
)
def test_a_text_that_is_no_graph_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        parse_graph(NORM_TEXT.replace(old, new, 1))
    assert str(caught.value).startswith("line ")
