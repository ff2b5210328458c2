"""Graphs written by hand, and those of tiny models against the count from their shape."""

import pytest

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.planner.costs import Part, StepShape, decode_step
from banyan.planner.prediction.graph_work import graph_work
from banyan.planner.prediction.work import (
    AttentionWork,
    ElementwiseWork,
    ExpertWork,
    LinearWork,
    LookupWork,
    StepWork,
    step_sizes,
)

TOKENS = symbol("num_tokens", 1, 1024)
BF16, F32 = DType.BFLOAT16, DType.FLOAT32


def _weight(builder: Builder, name: str, shape: tuple[int, ...], dtype: DType = BF16) -> Node:
    return builder.input(name, TensorType(shape, dtype), "weight")


def _graph(builder: Builder, value: Node, inputs: list[Node]) -> Graph:
    return Graph("step", tuple(inputs), (Output("logits", value),))


def _linear(builder: Builder, rows: Node, weight: Node) -> Node:
    return builder.add("dot", (rows, weight), transpose_b=True, dtype=BF16)


def two_layers() -> StepWork:
    """Embedding of 10 words, two layers with two products of the same rows, a tied head."""
    builder = Builder()
    tokens = builder.input("token_ids", TensorType((TOKENS,), DType.INT64))
    table = _weight(builder, "embed.weight", (10, 4))
    inputs, value = [tokens, table], builder.add("gather", (table, tokens), axis=0)
    for layer in (0, 1):
        left = _weight(builder, f"layers.{layer}.left.weight", (4, 4))
        right = _weight(builder, f"layers.{layer}.right.weight", (4, 4))
        inputs += [left, right]
        gated = _linear(builder, value, left).apply("sigmoid") * _linear(builder, value, right)
        value = value + gated
    return graph_work(_graph(builder, _linear(builder, value, table), inputs))


def test_products_of_the_same_rows_count_as_one() -> None:
    linears = [node for node in two_layers().nodes if isinstance(node, LinearWork)]
    assert [(node.place, node.columns, node.depth) for node in linears] == [
        (0, 8, 4),
        (1, 8, 4),
        (2, 10, 4),
    ]
    assert linears[0].names == ("layers.0.left.weight", "layers.0.right.weight")
    assert [node.weight_bytes for node in linears] == [64.0, 64.0, 80.0]


def test_the_table_is_looked_up_before_the_first_layer() -> None:
    (lookup,) = (node for node in two_layers().nodes if isinstance(node, LookupWork))
    assert (lookup.place, lookup.row_bytes, lookup.weight_bytes) == (-1, 8.0, 80.0)


def test_what_follows_a_product_number_by_number_is_part_of_it() -> None:
    assert not [node for node in two_layers().nodes if isinstance(node, ElementwiseWork)]


def test_kernels_that_look_at_whole_rows_count_by_what_they_read_and_write() -> None:
    builder = Builder()
    rows = builder.input("rows", TensorType((TOKENS, 4), BF16))
    left = _weight(builder, "layers.0.left.weight", (4, 4))
    right = _weight(builder, "layers.1.right.weight", (4, 4))
    first = _linear(builder, rows, left)
    normed = first * first.reduce("sum", (1,), keep=True).expand((TOKENS, 4))
    work = graph_work(_graph(builder, _linear(builder, normed, right), [rows, left, right]))
    (between,) = (node for node in work.nodes if isinstance(node, ElementwiseWork))
    # Three rows of 4 numbers of 2 bytes in, as many out.
    assert between.num_bytes(step_sizes(decode_step(3, 5))) == 2 * 3 * 4 * 2
    assert (between.place, between.kernels) == (1, 1)


def test_a_weight_that_is_table_and_head_is_held_once() -> None:
    work = two_layers()
    assert work.weight_bytes(Part(0, 2)) == 80 + 128
    assert work.weight_bytes(Part(0, 1)) == 80 + 64
    assert work.weight_bytes(Part(1, 2)) == 80 + 64
    assert work.weight_bytes(Part(0, 2, share=0.5)) == 104


def test_parts_of_a_model_add_up_to_the_whole() -> None:
    work, sizes = two_layers(), step_sizes(decode_step(3, 5))
    whole = work.operations(Part(0, 2), sizes)
    assert whole == 2 * (3 * 32 * 2 + 3 * 40)
    assert work.operations(Part(0, 1), sizes) + work.operations(Part(1, 2), sizes) == whole


def test_quantised_weights_count_with_their_scales() -> None:
    builder = Builder()
    rows = builder.input("rows", TensorType((TOKENS, 64), BF16))
    weight = _weight(builder, "layers.0.a.weight", (8, 32), DType.UINT8)
    scales = _weight(builder, "layers.0.a.scales", (8, 2), F32)
    value = builder.add(
        "quantized_linear",
        (rows, weight, scales),
        format="int4",
        group=32,
        rows=1,
        activation="plain",
        dtype=BF16,
    )
    (linear,) = (
        node
        for node in graph_work(_graph(builder, value, [rows, weight, scales])).nodes
        if isinstance(node, LinearWork)
    )
    assert (linear.form, linear.depth, linear.weight_bytes) == ("int4", 64, 8 * 32 + 8 * 2 * 4)


def test_experts_count_those_that_are_visited() -> None:
    builder = Builder()
    rows = builder.input("rows", TensorType((TOKENS, 4), BF16))
    chosen = builder.input("chosen", TensorType((TOKENS,), DType.INT64))
    stack = _weight(builder, "layers.0.experts.weight", (2, 6, 4))
    value = builder.add("grouped_dot", (rows, stack, chosen), dtype=BF16)
    work = graph_work(_graph(builder, value, [rows, chosen, stack]))
    (experts,) = (node for node in work.nodes if isinstance(node, ExpertWork))
    one, many = step_sizes(decode_step(1, 5)), step_sizes(decode_step(200, 5))
    assert (experts.num_experts, experts.weight_bytes) == (2, 96.0)
    assert experts.num_bytes(one) == 48.0
    assert experts.num_bytes(many) == pytest.approx(96.0)
    assert experts.operations(many) == 2 * 200 * 24
    assert list(work.of(Part(0, 1, experts=False))) == [
        node for node in work.nodes if node is not experts
    ]


def test_attention_counts_pairs_and_cached_tokens_within_its_window() -> None:
    near = AttentionWork(0, 4, 2, 16, window=8, form="bfloat16", bytes_per_token=128.0)
    far = AttentionWork(0, 4, 2, 16, window=0, form="bfloat16", bytes_per_token=128.0)
    sizes = step_sizes(StepShape(3, 3, 60, 60))
    assert far.operations(sizes) == 4 * 4 * 16 * 60
    assert near.operations(sizes) == 4 * 4 * 16 * 24
    assert (far.num_bytes(sizes), near.num_bytes(sizes)) == (60 * 128, 24 * 128)
