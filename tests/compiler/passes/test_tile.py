import numpy as np
from hypothesis import HealthCheck, given, settings

from banyan.compiler.ir.graph import Builder, Graph, Kernel, Node, Output
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import verify
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.tiling.options import TileOptions
from tests.compiler.comparing import assert_same_results
from tests.compiler.random_graphs import cases
from tests.compiler.random_values import Case

SMALL = TileOptions(
    row_block=3, panel_group=1, product_rows=2, product_columns=3, widest_row=4, row_piece=3
)
BLOCKS = TileOptions(
    product_rows=4,
    product_columns=4,
    packing=False,
    depth_piece=2,
    longest_tile=3,
    longest_scores=0,
)
"""As targets of block languages lower: no packed weights, loops over depth and over long rows."""

TOGETHER = TileOptions(packing=False, tile_elements=32)

LOWERED = {"input", "data", "reshape", "call", "get", "extern", "concat"}


def kernels(graph: Graph) -> list[Kernel]:
    found = [node.attr("kernel") for node in graph.nodes() if node.op == "call"]
    return [kernel for kernel in found if isinstance(kernel, Kernel)]


def body_ops(kernel: Kernel) -> list[str]:
    seen: dict[Node, None] = {}
    pending = list(kernel.body.effects)
    while pending:
        node = pending.pop()
        if node not in seen:
            seen[node] = None
            pending.extend(node.args)
    return [node.op for node in seen]


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(max_steps=12))
def test_lowered_random_graphs_give_the_same_numbers(case: Case) -> None:
    lowered = lower(case.graph)
    assert {node.op for node in lowered.nodes()} <= LOWERED
    assert_same_results(case.graph, lowered, case.arrays)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(max_steps=8, with_bfloat16=False))
def test_small_pieces_give_the_same_numbers(case: Case) -> None:
    assert_same_results(case.graph, lower(case.graph, SMALL), case.arrays)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(max_steps=8, with_bfloat16=False))
def test_loops_over_depth_and_long_rows_give_the_same_numbers(case: Case) -> None:
    assert_same_results(case.graph, lower(case.graph, BLOCKS), case.arrays)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(max_steps=8, with_bfloat16=False))
def test_short_rows_that_share_a_program_give_the_same_numbers(case: Case) -> None:
    assert_same_results(case.graph, lower(case.graph, TOGETHER), case.arrays)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(max_steps=8))
def test_lowered_graphs_survive_printing_and_parsing(case: Case) -> None:
    text = print_graph(lower(case.graph))
    again = verify(parse_graph(text))
    assert print_graph(again) == text


COLUMN = """\
graph column {
  symbol n in [1, 6]
  %0 = input {name="x", packing=none, role="argument"} : f32[n, 1]
  %1 = neg %0 : f32[n, 1]
  %2 = concat %0, %1 {axis=0} : f32[2 * n, 1]
  output y = %2
}
"""


def test_rows_of_one_element_share_a_program_too() -> None:
    graph = parse_graph(COLUMN)
    x = np.arange(5, dtype=np.float32).reshape(5, 1)
    assert_same_results(graph, lower(graph, TOGETHER), {"x": x})


ROPE = """\
graph rope {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 8]
  %1 = input {name="c", packing=none, role="argument"} : f32[t, 4]
  %2 = slice %0 {axis=1, start=0, step=1, stop=4} : f32[t, 4]
  %3 = slice %0 {axis=1, start=4, step=1, stop=8} : f32[t, 4]
  %4 = mul %2, %1 : f32[t, 4]
  %5 = neg %3 : f32[t, 4]
  %6 = concat %4, %5 {axis=1} : f32[t, 8]
  output y = %6
}
"""


def test_a_concatenation_becomes_one_store_for_each_part() -> None:
    (kernel,) = kernels(tile(parse_graph(ROPE)))
    ops = body_ops(kernel)
    assert ops.count("store") == 2
    assert "concat" not in ops
    assert all(
        "gather" not in str(node.attr("index"))
        for node in kernel.body.effects
        if node.op == "store"
    )


LAYERS = """\
graph layers {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 4]
  %1 = input {name="layers.0.w", packing="panels", role="weight"} : f32[1, 4, 16, 1]
  %2 = input {name="layers.1.w", packing="panels", role="weight"} : f32[1, 4, 16, 1]
  %3 = packed_dot %0, %1 {columns=4, dtype=f32} : f32[t, 4]
  %4 = add %0, %3 : f32[t, 4]
  %5 = packed_dot %4, %2 {columns=4, dtype=f32} : f32[t, 4]
  %6 = add %4, %5 : f32[t, 4]
  output y = %6
}
"""


def test_equal_layers_share_one_kernel_without_a_layer_number() -> None:
    found = kernels(tile(parse_graph(LAYERS)))
    assert len(found) == 2
    assert found[0] is found[1]
    assert found[0].name == "linear_add_0"
    names = [pointer.attr("name") for pointer in found[0].pointers]
    assert names == ["in0", "in1", "out"]


def test_an_output_that_is_an_input_needs_no_kernel() -> None:
    text = """\
graph same {
  %0 = input {name="x", packing=none, role="argument"} : f32[2, 4]
  %1 = reshape %0 {shape=(8)} : f32[8]
  output y = %0
  output z = %1
}
"""
    assert print_graph(tile(parse_graph(text))) == text


GATED = """\
graph gated {
  symbol t in [1, 9]
  %0 = input {name="x", packing=none, role="argument"} : f32[t, 8]
  %1 = input {name="gate", packing=none, role="weight"} : f32[20, 8]
  %2 = input {name="up", packing=none, role="weight"} : f32[20, 8]
  %3 = dot %0, %1 {dtype=f32, transpose_b=true} : f32[t, 20]
  %4 = dot %0, %2 {dtype=f32, transpose_b=true} : f32[t, 20]
  %5 = sigmoid %3 : f32[t, 20]
  %6 = mul %3, %5 : f32[t, 20]
  %7 = mul %6, %4 : f32[t, 20]
  output y = %7
OTHER}
"""


def gated_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"x": (5, 8), "gate": (20, 8), "up": (20, 8)}
    return {n: generator.standard_normal(s).astype(np.float32) for n, s in shapes.items()}


def test_both_halves_of_a_gated_block_are_one_kernel() -> None:
    before = parse_graph(GATED.replace("OTHER", ""))
    after = lower(before)
    (kernel,) = kernels(after)
    assert body_ops(kernel).count("packed_dot") == 2
    assert_same_results(before, after, gated_arrays())


def test_a_half_that_somebody_else_reads_stays_in_memory() -> None:
    before = parse_graph(GATED.replace("OTHER", "  output up = %4\n"))
    after = lower(before)
    assert [body_ops(k).count("packed_dot") for k in kernels(after)] == [1, 1]
    assert_same_results(before, after, gated_arrays())


def test_rows_of_one_column_are_joined_where_they_share_a_program() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((symbol("n", 0, 6), 1), DType.FLOAT32))
    both = x.apply("neg").apply("concat", x.apply("abs"), axis=0)
    graph = Graph("joined", (x,), (Output("y", both),))
    lowered = tile(graph, TOGETHER)
    values = {"x": np.asarray([[1.0], [2.0], [3.0]], np.float32)}
    assert np.array_equal(run_graph(lowered, values)["y"], run_graph(graph, values)["y"])
