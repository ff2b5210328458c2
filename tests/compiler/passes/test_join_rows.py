"""A sum of rows and the norm behind it are one kernel; what is computed once stays so."""

import numpy as np
import pytest

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.fuse import plan_fusion
from banyan.compiler.passes.join_rows import join_rows
from banyan.compiler.passes.pipeline import lower
from tests.compiler.comparing import assert_same_results

RESIDUAL = """\
graph g {
  symbol t in [1, 64]
  %0 = input {name="stream", packing=none, role="argument"} : f32[t, 64]
  %1 = input {name="branch", packing=none, role="argument"} : f32[t, 64]
  %2 = input {name="norm", packing=none, role="weight"} : f32[64]
  %3 = add %0, %1 : f32[t, 64]
  %4 = mul %3, %3 : f32[t, 64]
  %5 = reduce %4 {axes=(1), kind="sum"} : f32[t]
  %6 = reshape %5 {shape=([t], 1)} : f32[t, 1]
  %7 = rsqrt %6 : f32[t, 1]
  %8 = expand %7 {shape=([t], 64)} : f32[t, 64]
  %9 = mul %3, %8 : f32[t, 64]
  %10 = expand %2 {shape=([t], 64)} : f32[t, 64]
  %11 = mul %9, %10 : f32[t, 64]
  output stream = %3
  output normed = %11
}
"""

ONE_KERNEL = """\
  kernel @0 row_reduce_0 grid (t) {
    %0 = pointer {access="read", name="in0"} : f32[t, 64]
    %1 = pointer {access="read", name="in1"} : f32[t, 64]
    %2 = pointer {access="read", name="in2"} : f32[64]
    %3 = pointer {access="write", name="out"} : f32[t, 64]
    %4 = pointer {access="write", name="out1"} : f32[t, 64]
    body (%5 : tile i64[]) {
      %6 = constant {dtype=i64, space="tile", value=0} : tile i64[]
      %7 = load %0, %5, %6 {index=("at", "range"), sizes=(1, 64)} : tile f32[64]
      %8 = load %1, %5, %6 {index=("at", "range"), sizes=(1, 64)} : tile f32[64]
      %9 = add %7, %8 : tile f32[64]
      %10 = store %3, %9, %5, %6 {index=("at", "range"), sizes=(1, 64)} : ()
      %11 = mul %9, %9 : tile f32[64]
      %12 = reduce %11 {axes=(0), kind="sum"} : tile f32[]
      %13 = rsqrt %12 : tile f32[]
      %14 = expand %13 {shape=(64)} : tile f32[64]
      %15 = mul %9, %14 : tile f32[64]
      %16 = load %2, %6 {index=("range"), sizes=(64)} : tile f32[64]
      %17 = mul %15, %16 : tile f32[64]
      %18 = store %4, %17, %5, %6 {index=("at", "range"), sizes=(1, 64)} : ()
      yield
    }
  }
"""


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"stream": (5, 64), "branch": (5, 64), "norm": (64,)}
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def families(graph: Graph) -> set[tuple[str, ...]]:
    siblings = join_rows(graph, plan_fusion(graph)).siblings
    return {tuple(node.op for node in family) for family in siblings.values()}


def test_a_residual_and_its_norm_read_and_write_each_row_once() -> None:
    before = parse_graph(RESIDUAL)
    after = lower(before)
    assert ONE_KERNEL in print_graph(after)
    assert sum(node.op == "call" for node in after.nodes()) == 1
    assert_same_results(before, after, arrays())


def test_a_sum_in_the_kernel_of_a_linear_stays_there() -> None:
    text = RESIDUAL.replace(
        '%1 = input {name="branch", packing=none, role="argument"} : f32[t, 64]',
        '%1 = input {name="branch", packing=none, role="argument"} : f32[t, 64]\n'
        '  %12 = input {name="down", packing=none, role="weight"} : f32[64, 64]\n'
        "  %13 = dot %1, %12 {dtype=f32, transpose_b=true} : f32[t, 64]",
    ).replace("add %0, %1", "add %0, %13")
    after = print_graph(lower(parse_graph(text)))
    assert "kernel @0 linear_add_0" in after
    assert "kernel @1 row_reduce_0" in after
    assert "kernel @2" not in after
    assert families(parse_graph(text)) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Another row is read too, or the norm runs over another axis.
        ("mul %9, %10", "mul %9, %14"),
        ("mul %3, %3", "mul %3, %14"),
        # Only a part of each row is read: no norm.
        ("  %7 = rsqrt %6", "  %7 = rsqrt %15"),
    ],
)
def test_what_reads_a_stream_in_another_way_has_its_own_kernel(old: str, new: str) -> None:
    turned = """\
  %12 = slice %3 {axis=1, start=1, step=1, stop=64} : f32[t, 63]
  %13 = slice %3 {axis=1, start=0, step=1, stop=1} : f32[t, 1]
  %14 = concat %12, %13 {axis=1} : f32[t, 64]
  %15 = neg %13 : f32[t, 1]
"""
    lines = RESIDUAL.replace("  %4 = mul", f"{turned}  %4 = mul").replace(old, new)
    graph = parse_graph(lines)
    assert families(graph) == set()
    assert_same_results(graph, lower(graph), {**arrays(), "stream": np.abs(arrays()["stream"])})


def test_a_norm_that_waits_for_something_between_has_its_own_kernel() -> None:
    text = RESIDUAL.replace("expand %2 {shape=([t], 64)}", "expand %14 {shape=([t], 64)}").replace(
        "  %4 = mul",
        '  %12 = reduce %3 {axes=(0), kind="max"} : f32[64]\n'
        "  %13 = expand %2 {shape=(64)} : f32[64]\n"
        "  %14 = add %12, %13 : f32[64]\n  %4 = mul",
    )
    graph = parse_graph(text)
    assert families(graph) == set()
    assert_same_results(graph, lower(graph), arrays())
