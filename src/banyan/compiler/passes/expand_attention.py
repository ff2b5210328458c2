"""Attention over whole tensors becomes two products around a softmax.

Later passes put all of it into one kernel when the second product is narrow enough.
"""

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Captures, Pattern, Rule, rewrite_graph
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType

HIDDEN = float("-inf")


def expand_attention(graph: Graph) -> Graph:
    """Write out every `attention` node; rows that see nothing become zeros."""
    return rewrite_graph(graph, RULES)


def _expand(builder: Builder, found: Captures) -> Node | None:
    root = found["root"]
    query, key, value = root.args[:3]
    scores = builder.add("dot", (query, key), transpose_b=True, dtype=DType.FLOAT32)
    scores = builder.add("mul", (scores, _number(builder, root.attr("scale"), scores)))
    if root.attr("causal"):
        scores = _keep(builder, _lower_triangle(builder, scores.shape), scores)
    if len(root.args) == 4:
        scores = _masked(builder, root.args[3], scores)
    weights = builder.add("cast", (_softmax(builder, scores),), dtype=value.dtype)
    return builder.add("dot", (weights, value), transpose_b=False, dtype=root.dtype)


def _number(builder: Builder, value: object, like: Node) -> Node:
    constant = builder.add("constant", value=float(str(value)), dtype=like.dtype)
    return builder.add("expand", (constant,), shape=like.shape)


def _keep(builder: Builder, seen: Node, scores: Node) -> Node:
    return builder.add("where", (seen, scores, _number(builder, HIDDEN, scores)))


def _lower_triangle(builder: Builder, shape: tuple[Dim, ...]) -> Node:
    rows, columns = shape[-2:]
    row = builder.add("iota", size=rows, dtype=DType.INT64)
    row = builder.add("expand", (builder.add("reshape", (row,), shape=(rows, 1)),), shape=shape)
    column = builder.add("iota", size=columns, dtype=DType.INT64)
    return builder.add("le", (builder.add("expand", (column,), shape=shape), row))


def _masked(builder: Builder, mask: Node, scores: Node) -> Node:
    if mask.dtype is DType.BOOL:
        return _keep(builder, mask, scores)
    return builder.add("add", (scores, builder.add("cast", (mask,), dtype=DType.FLOAT32)))


def _softmax(builder: Builder, scores: Node) -> Node:
    last = scores.tensor.rank - 1
    kept = (*scores.shape[:-1], 1)

    def along(node: Node, kind: str) -> Node:
        reduced = builder.add("reduce", (node,), axes=(last,), kind=kind)
        return builder.add("reshape", (reduced,), shape=kept)

    def across(node: Node) -> Node:
        return builder.add("expand", (node,), shape=scores.shape)

    top = along(scores, "max")
    nothing = builder.add("eq", (top, _number(builder, HIDDEN, top)))
    safe = builder.add("where", (nothing, _number(builder, 0.0, top), top))
    grown = builder.add("exp", (builder.add("sub", (scores, across(safe))),))
    total = along(grown, "sum")
    divisor = builder.add("where", (nothing, _number(builder, 1.0, top), total))
    return builder.add("div", (grown, across(divisor)))


RULES: tuple[Rule, ...] = (
    Rule("write out attention", Pattern(frozenset({"attention"}), None, "root"), _expand),
)
