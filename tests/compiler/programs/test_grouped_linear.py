from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.pack_weights import pack_weights
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.compiler.tiling.options import TileOptions
from tests.compiler.comparing import assert_same_results, packed

SMALL = TileOptions(row_block=2, panel_group=1)
EXPERTS = np.array([2, 0, 2, 2, 3, 0, 2])


def grouped_graph(columns: int, depth: int, dtype: DType, role: str) -> Graph:
    builder, rows = Builder(), symbol("rows", 1, 64)
    inputs = (
        builder.input("x", TensorType((rows, depth), dtype)),
        builder.input("weight", TensorType((4, columns, depth), dtype), role),
        builder.input("experts", TensorType((rows,), DType.INT64)),
    )
    node = builder.add("grouped_dot", inputs, dtype=dtype)
    return Graph("grouped", inputs, (Output("out", node),))


def arrays(columns: int, depth: int, dtype: DType) -> dict[str, Any]:
    generator = np.random.default_rng(2)
    return {
        "x": generator.normal(size=(7, depth)).astype(dtype.numpy),
        "weight": generator.normal(size=(4, columns, depth)).astype(dtype.numpy),
        "experts": EXPERTS,
    }


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
def test_packed_experts_multiply_their_own_rows(dtype: DType) -> None:
    graph = grouped_graph(20, 6, dtype, "weight")
    lowered = tile(pack_weights(graph), SMALL)
    (weight,) = [n for n in lowered.inputs if n.attr("name") == "weight"]
    assert weight.attr("packing") == "stacked_panels"
    assert_same_results(graph, lowered, arrays(20, 6, dtype))


def test_experts_that_are_no_weights_stay_as_they_are() -> None:
    graph = grouped_graph(20, 6, DType.FLOAT32, "argument")
    lowered = tile(pack_weights(graph), SMALL)
    assert all(node.attr("packing") is None for node in lowered.inputs)
    assert_same_results(graph, lowered, arrays(20, 6, DType.FLOAT32))


def test_experts_sum_over_their_depth_in_pieces() -> None:
    graph = grouped_graph(20, 6, DType.FLOAT32, "weight")
    blocks = TileOptions(row_block=2, panel_group=1, packing=False, depth_piece=4, longest_tile=3)
    assert_same_results(graph, tile(graph, blocks), arrays(20, 6, DType.FLOAT32))


def test_layers_that_share_their_experts_sort_the_rows_once() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((7, 6), DType.FLOAT32))
    experts = builder.input("experts", TensorType((7,), DType.INT64))
    weights = [
        builder.input(name, TensorType((4, 20, 6), DType.FLOAT32), "weight") for name in ("a", "b")
    ]
    nodes = [builder.add("grouped_dot", (x, w, experts), dtype=DType.FLOAT32) for w in weights]
    graph = Graph(
        "two", (x, experts, *weights), tuple(Output(f"o{i}", n) for i, n in enumerate(nodes))
    )
    lowered = tile(pack_weights(graph))
    assert sum(node.op == "call" for node in lowered.nodes()) == 3


def test_rows_are_sorted_by_expert_and_keep_their_order() -> None:
    builder = Builder()
    experts = builder.input("experts", TensorType((symbol("rows", 1, 64),), DType.INT64))
    groups = builder.add("group_rows", (experts,), groups=4)
    outputs = tuple(
        Output(name, builder.add("get", (groups,), index=i))
        for i, name in enumerate(("order", "starts"))
    )
    graph = Graph("group", (experts,), outputs)
    found = run_graph(tile(graph), packed(graph, {"experts": EXPERTS}))
    assert found["order"].tolist() == [1, 5, 0, 2, 3, 6, 4]
    assert found["starts"].tolist() == [0, 2, 2, 6, 7]
