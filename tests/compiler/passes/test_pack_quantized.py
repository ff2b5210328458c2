"""Quantised layers take packed weights, and share rows that are quantised once."""

import numpy as np
import pytest

from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.parse import parse_graph
from banyan.compiler.ir.text import print_graph
from banyan.compiler.passes.pack_quantized import pack_quantized
from banyan.compiler.passes.pipeline import stages
from banyan.compiler.tiling.options import TileOptions
from banyan.foundation.errors import GraphError
from tests.compiler.comparing import assert_same_results
from tests.compiler.quantized_graphs import CASES, Case, arrays, linear_graph

FORMATS = frozenset({"int8", "int4", "fp8"})
PAIR = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : bf16[3, 64]
  %1 = input {name="a.weight", packing=none, role="weight"} : u8[96, 32]
  %2 = input {name="a.scales", packing=none, role="weight"} : f32[96, 2]
  %3 = quantized_linear %0, %1, %2 {activation="int8", dtype=bf16, format="int4", group=32, rows=1} : bf16[3, 96]
  %4 = input {name="b.weight", packing=none, role="weight"} : i8[20, 64]
  %5 = input {name="b.scales", packing=none, role="weight"} : f32[20, 2]
  %6 = quantized_linear %0, %4, %5 {activation="int8", dtype=bf16, format="int8", group=32, rows=1} : bf16[3, 20]
  output y = %3
  output z = %6
}
"""  # noqa: E501


def count(graph: Graph, op: str) -> int:
    return sum(node.op == op for node in graph.nodes())


def test_weights_become_blocks_of_64_columns_and_rows_are_quantised_once() -> None:
    wanted = """\
graph g {
  %0 = input {name="x", packing=none, role="argument"} : bf16[3, 64]
  %1 = input {name="a.weight", packing="quantized_nibbles", role="weight"} : u8[2, 8, 256]
  %2 = input {name="a.scales", packing="quantized_columns:1", role="weight"} : f32[2, 2, 64]
  %3 = input {name="b.weight", packing="quantized_bytes", role="weight"} : u8[1, 16, 256]
  %4 = input {name="b.scales", packing="quantized_columns:1", role="weight"} : f32[1, 2, 64]
  %5 = quantize_rows %0 {group=32} : i8[3, 128]
  %6 = quantized_dot %5, %1, %2 {activation="int8", columns=96, depth=64, dtype=bf16, format="int4", group=32} : bf16[3, 96]
  %7 = quantized_dot %5, %3, %4 {activation="int8", columns=20, depth=64, dtype=bf16, format="int8", group=32} : bf16[3, 20]
  output y = %6
  output z = %7
}
"""  # noqa: E501
    assert print_graph(pack_quantized(parse_graph(PAIR), FORMATS)) == wanted


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_stage_means_the_same(case: Case) -> None:
    graph, given = linear_graph(case), arrays(case)
    for _, stage in stages(graph, TileOptions(quantized=FORMATS)):
        assert_same_results(graph, stage, given, 1e-4)


def test_formats_without_a_kernel_are_written_out() -> None:
    graph = parse_graph(PAIR)
    packed = pack_quantized(graph, {"int8"})
    assert count(packed, "quantized_dot") == count(packed, "quantized_linear") == 1
    names = [name for name, _ in stages(graph, TileOptions(quantized=FORMATS))]
    assert names.index("pack_quantized") < names.index("expand_quantized")


ARGUMENT = PAIR.replace(
    '"b.scales", packing=none, role="weight"', '"b.scales", packing=none, role="argument"'
)
SHORT = PAIR.replace("f32[20, 2]", "f32[20, 16]").replace('"int8", group=32', '"int8", group=4')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PAIR.replace("output z = %6", "output z = %4"), "a result"),
        (ARGUMENT, "an argument"),
        (SHORT, "short groups"),
    ],
)
def test_a_layer_stays_whole_when_one_part_cannot_be_packed(text: str, reason: str) -> None:
    packed = pack_quantized(parse_graph(text), FORMATS)
    assert count(packed, "quantized_dot") == 1
    for node in packed.inputs:
        if str(node.attr("name")).startswith("b."):
            assert node.attr("packing") is None, reason


def test_layers_that_share_scales_with_an_unpacked_one_stay_too() -> None:
    text = PAIR.replace('name="b.weight", packing=none, role="weight"} : i8[20, 64]',
                        'name="b.weight", packing=none, role="argument"} : u8[96, 32]')  # fmt: skip
    text = (
        text.replace("%0, %4, %5", "%0, %4, %2")
        .replace('format="int8", group=32', 'format="int4", group=32')
        .replace("bf16[3, 20]", "bf16[3, 96]")
    )
    packed = pack_quantized(parse_graph(text), FORMATS)
    assert count(packed, "quantized_dot") == 0


def test_groups_that_do_not_divide_the_width_are_refused() -> None:
    text = PAIR.replace('format="int4", group=32', 'format="int4", group=48')
    with pytest.raises(
        GraphError,
        match=r"groups of 48 do not divide the width 64; the nearest group that does is 32",
    ):
        parse_graph(text)


def test_a_row_of_zeros_stays_zero() -> None:
    case = Case("int8", 64, "int8")
    graph, given = linear_graph(case), arrays(case)
    given["x"] = np.zeros_like(given["x"])
    assert_same_results(graph, pack_quantized(graph, FORMATS), given)
