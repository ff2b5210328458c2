import numpy as np

from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.flatten_rows import flatten_rows
from tests.compiler.comparing import assert_same_results

BLOCK = """\
graph block {
  symbol b in [1, 9]
  symbol t in [1, 9]
  %0 = input {name="rows", packing=none, role="argument"} : f32[b * t, 4]
  %1 = input {name="x", packing=none, role="argument"} : f32[b, t, 4]
  %2 = input {name="bias", packing=none, role="weight"} : f32[4]
  %3 = reshape %0 {shape=([b], [t], 4)} : f32[b, t, 4]
  %4 = expand %2 {shape=([b], [t], 4)} : f32[b, t, 4]
  %5 = add %3, %4 : f32[b, t, 4]
  %6 = add %5, %1 : f32[b, t, 4]
  %7 = reduce %6 {axes=(2), kind="sum"} : f32[b, t]
  %8 = reshape %7 {shape=([b], [t], 1)} : f32[b, t, 1]
  %9 = constant {dtype=f32, value=4.0} : f32[]
  %10 = expand %9 {shape=([b], [t], 1)} : f32[b, t, 1]
  %11 = div %8, %10 : f32[b, t, 1]
  %12 = expand %11 {shape=([b], [t], 4)} : f32[b, t, 4]
  %13 = sub %6, %12 : f32[b, t, 4]
  output y = %13
}
"""


def test_a_norm_behind_a_linear_layer_works_on_rows() -> None:
    after = flatten_rows(parse_graph(BLOCK))
    lines = print_graph(after).splitlines()
    kept = [line for line in lines if "reshape" in line and ": f32[b, t" in line]
    assert len(kept) == 1
    assert kept[0] == lines[-3]


def test_the_numbers_stay_the_same() -> None:
    graph = parse_graph(BLOCK)
    generator = np.random.default_rng(0)
    arrays = {
        "rows": generator.normal(size=(6, 4)).astype(np.float32),
        "x": generator.normal(size=(2, 3, 4)).astype(np.float32),
        "bias": generator.normal(size=4).astype(np.float32),
    }
    assert_same_results(graph, flatten_rows(graph), arrays)


def test_heads_that_split_the_last_dim_stay_where_they_are() -> None:
    text = """\
graph heads {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 8]
  %1 = reshape %0 {shape=([t], 2, 4)} : f32[t, 2, 4]
  %2 = neg %1 : f32[t, 2, 4]
  output y = %2
}
"""
    assert print_graph(flatten_rows(parse_graph(text))) == text


def test_a_value_that_would_need_a_copy_stops_the_move() -> None:
    text = """\
graph stop {
  symbol b in [1, 9]
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[b * t, 4]
  %1 = input {name="s", packing=none, role="argument"} : f32[b, 1, 1]
  %2 = reshape %0 {shape=([b], [t], 4)} : f32[b, t, 4]
  %3 = reduce %2 {axes=(1), kind="sum"} : f32[b, 4]
  output y = %3
}
"""
    graph = parse_graph(text)
    assert [n.op for n in flatten_rows(graph).nodes()] == [n.op for n in graph.nodes()]


MASKED = """\
graph masked {
  symbol b in [1, 9]
  symbol t in [1, 9]
  %0 = input {name="rows", packing=none, role="argument"} : f32[b * t, 4]
  %1 = input {name="mask", packing=none, role="argument"} : f32[b, t, 1]
  %2 = reshape %0 {shape=([b], [t], 4)} : f32[b, t, 4]
  %3 = expand %1 {shape=([b], [t], 4)} : f32[b, t, 4]
  %4 = mul %2, %3 : f32[b, t, 4]
  output y = %4
}
"""


def test_one_number_for_each_row_is_flattened_with_the_rows() -> None:
    graph = parse_graph(MASKED)
    after = flatten_rows(graph)
    assert [str(size) for node in after.nodes() if node.op == "mul" for size in node.shape] == [
        "b * t",
        "4",
    ]
    arrays = {
        "rows": np.arange(24, dtype=np.float32).reshape(6, 4),
        "mask": np.array([[[1], [0], [2]], [[3], [1], [0]]], np.float32),
    }
    assert_same_results(graph, after, arrays)


def test_leading_dims_of_which_one_is_one_are_left_alone() -> None:
    text = """\
graph ones {
  symbol n in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[1, n, 2]
  %1 = input {name="s", packing=none, role="argument"} : f32[1, 1, n, 1]
  %2 = reshape %0 {shape=(1, 1, [n], 2)} : f32[1, 1, n, 2]
  %3 = expand %1 {shape=(1, 1, [n], 2)} : f32[1, 1, n, 2]
  %4 = mul %2, %3 : f32[1, 1, n, 2]
  output y = %4
}
"""
    graph = parse_graph(text)
    arrays = {"x": np.ones((1, 3, 2), np.float32), "s": np.ones((1, 1, 3, 1), np.float32)}
    assert_same_results(graph, flatten_rows(graph), arrays)
