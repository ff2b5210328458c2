"""Algebra that never changes a result: fewer nodes, same numbers.

Rules keep float results to the bit (x + 0 may turn -0.0 into 0.0 and is therefore kept as a rule
for integers only). Equal nodes merge because the rewriter rebuilds through one builder.
"""

import numpy as np

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Captures, Pattern, Rule, anything, operation, rewrite_graph
from banyan.compiler.ir.operations import BINARY, COMPARE, UNARY
from banyan.compiler.ir.types import Space
from banyan.compiler.targets.interpreter.arithmetic import pointwise


def simplify(graph: Graph) -> Graph:
    """Fold constants, drop operations that do nothing, join runs of shape operations."""
    return rewrite_graph(graph, RULES)


def _same_type(builder: Builder, found: Captures) -> Node | None:
    return found["x"] if found["x"].type == found["root"].type else None


def _join_reshapes(builder: Builder, found: Captures) -> Node | None:
    return builder.add("reshape", (found["x"],), shape=found["root"].shape)


def _join_expands(builder: Builder, found: Captures) -> Node | None:
    return builder.add("expand", (found["x"],), shape=found["root"].shape)


def _join_permutes(builder: Builder, found: Captures) -> Node | None:
    inner, outer = found["inner"].attr("order"), found["root"].attr("order")
    if not isinstance(inner, tuple) or not isinstance(outer, tuple):
        return None
    order = tuple(inner[i] for i in outer if isinstance(i, int))
    return builder.add("permute", (found["x"],), order=order)


def _identity_permute(builder: Builder, found: Captures) -> Node | None:
    order = found["root"].attr("order")
    return found["x"] if order == tuple(range(found["x"].tensor.rank)) else None


def _whole_slice(builder: Builder, found: Captures) -> Node | None:
    root = found["root"]
    whole = root.attr("step") == 1 and root.type == found["x"].type
    return found["x"] if whole and root.attr("start") == 0 else None


def _scalar(node: Node) -> Node | None:
    """The constant behind a node, seen through expand and reshape of one element."""
    while node.op in {"expand", "reshape"}:
        node = node.args[0]
    return node if node.op == "constant" else None


def _neutral(value: float, *, ops: frozenset[str], integers_only: bool = False) -> Rule:
    def rewrite(builder: Builder, found: Captures) -> Node | None:
        constant = _scalar(found["c"])
        if constant is None or constant.attr("value") != value:
            return None
        if integers_only and found["x"].dtype.is_floating:
            return None
        return found["x"]

    pattern = Pattern(ops, (anything("x"), anything("c")), "root")
    return Rule(f"{'/'.join(sorted(ops))} by {value}", pattern, rewrite)


def _fold(builder: Builder, found: Captures) -> Node | None:
    """Pointwise on constants: compute it now, in the precision of the result."""
    root = found["root"]
    constants = [_scalar(arg) for arg in root.args]
    known = [c for c in constants if c is not None]
    if not root.args or len(known) != len(constants):
        return None
    values = tuple(np.asarray(c.attr("value"), c.dtype.numpy) for c in known)
    with np.errstate(all="ignore"):
        result = pointwise(root.op, values, dict(root.attrs))
    number = result.astype(root.dtype.numpy).item()
    if root.tensor.space is Space.TILE:
        folded = builder.add("constant", value=number, dtype=root.dtype, space="tile")
    else:
        folded = builder.add("constant", value=number, dtype=root.dtype)
    return folded if not root.shape else builder.add("expand", (folded,), shape=root.shape)


_X = anything("x")

RULES: tuple[Rule, ...] = (
    Rule("cast to the same type", operation("cast", _X, name="root"), _same_type),
    Rule("reshape to the same shape", operation("reshape", _X, name="root"), _same_type),
    Rule("expand to the same shape", operation("expand", _X, name="root"), _same_type),
    Rule("permute by identity", operation("permute", _X, name="root"), _identity_permute),
    Rule("slice of everything", operation("slice", _X, name="root"), _whole_slice),
    Rule(
        "reshape of reshape",
        operation("reshape", operation("reshape", _X), name="root"),
        _join_reshapes,
    ),
    Rule(
        "expand of expand", operation("expand", operation("expand", _X), name="root"), _join_expands
    ),
    Rule(
        "permute of permute",
        operation("permute", operation("permute", _X, name="inner"), name="root"),
        _join_permutes,
    ),
    Rule(
        "double negation",
        operation("neg", operation("neg", _X), name="root"),
        _same_type,
    ),
    _neutral(1, ops=frozenset({"mul", "div"})),
    _neutral(1, ops=frozenset({"floordiv"}), integers_only=True),
    _neutral(0, ops=frozenset({"add", "sub"}), integers_only=True),
    Rule(
        "pointwise of constants",
        Pattern(UNARY | BINARY | COMPARE | {"cast"}, None, "root"),
        _fold,
    ),
)
"""In the order they are tried."""
