"""Patterns and rewriting."""

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.match import (
    Pattern,
    any_of,
    anything,
    operation,
    rewrite_graph,
    rule,
)
from banyan.compiler.ir.types import DType, TensorType
from tests.compiler.ir.sample_kernels import TOKENS

ROW = TensorType((TOKENS,), DType.FLOAT32)


def two_inputs() -> tuple[Builder, Node, Node]:
    builder = Builder()
    return builder, builder.input("x", ROW), builder.input("y", ROW)


def test_a_pattern_captures_the_parts_it_names() -> None:
    builder, x, y = two_inputs()
    node = builder.add("add", (builder.add("neg", (x,)), y))
    found = operation("add", operation("neg", anything("a")), anything("b")).match(node)
    assert found == {"a": x, "b": y}


def test_a_name_used_twice_must_be_the_same_node() -> None:
    builder, x, y = two_inputs()
    square = operation("mul", anything("a"), anything("a"))
    assert square.match(builder.add("mul", (x, x))) == {"a": x}
    assert square.match(builder.add("mul", (x, y))) is None


def test_a_commuting_pattern_tries_both_orders() -> None:
    builder, x, y = two_inputs()
    node = builder.add("add", (y, builder.add("neg", (x,))))
    pattern = (operation("neg", anything("a")), anything("b"))
    assert operation("add", *pattern).match(node) is None
    assert operation("add", *pattern, commutes=True).match(node) == {"a": x, "b": y}


def test_attributes_and_conditions_must_hold() -> None:
    builder, x, _ = two_inputs()
    node = builder.add("cast", (x,), dtype=DType.BFLOAT16)
    assert operation("cast", anything(), dtype=DType.BFLOAT16).match(node) == {}
    assert operation("cast", anything(), dtype=DType.INT64).match(node) is None
    assert operation("cast", anything(), anything()).match(node) is None
    assert Pattern(where=lambda n: n.op == "neg").match(node) is None
    assert any_of("neg", "cast", name="found").match(node) == {"found": node}
    assert any_of("neg", "abs").match(node) is None


def test_rewriting_goes_on_until_no_rule_fits() -> None:
    builder, x, y = two_inputs()
    node = x
    for _ in range(4):
        node = builder.add("neg", (node,))

    @rule("double", operation("neg", operation("neg", anything("a"))))
    def drop(_: Builder, root: Node, a: Node) -> Node:
        return a

    graph = rewrite_graph(Graph("g", (x, y), (Output("z", node),)), [drop])
    assert graph.outputs[0].node is graph.inputs[0]


def test_a_replacement_of_another_type_is_declined() -> None:
    builder, x, y = two_inputs()
    graph = Graph("g", (x, y), (Output("z", builder.add("neg", (x,))),))

    @rule("wrong", operation("neg", anything("a")))
    def wrong(maker: Builder, root: Node, a: Node) -> Node:
        return maker.add("cast", (a,), dtype=DType.INT64)

    rewritten = rewrite_graph(graph, [wrong])
    assert rewritten.outputs[0].node.op == "neg"
