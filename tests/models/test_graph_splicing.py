import pytest

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.text import print_graph
from banyan.compiler.ir.types import DType, TensorType
from banyan.foundation.errors import GraphError
from banyan.models.graph_splicing import splice

VECTOR = TensorType((4,), DType.FLOAT32)


def negation() -> Graph:
    builder = Builder()
    node = builder.input("x", VECTOR)
    return Graph("negation", (node,), (Output("y", builder.add("neg", [node])),))


def test_a_graph_can_be_spliced_in_twice_one_after_the_other() -> None:
    builder = Builder()
    first = builder.input("start", VECTOR)
    once = splice(builder, negation(), lambda _: first)["y"]
    twice = splice(builder, negation(), lambda _: once)["y"]
    assert (twice.op, twice.args) == ("neg", (once,))
    assert (once.op, once.args) == ("neg", (first,))
    assert "start" in print_graph(Graph("both", (first,), (Output("z", twice),)))


def test_a_replacement_of_another_type_is_refused() -> None:
    builder = Builder()

    def bind(_: Node) -> Node:
        return builder.input("start", TensorType((5,), DType.FLOAT32))

    with pytest.raises(GraphError, match=r"input x is .* what should take its place is"):
        splice(builder, negation(), bind)
