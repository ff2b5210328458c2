"""Algebra that never changes a result: fewer nodes, same numbers.

Rules keep float results to the bit (x + 0 may turn -0.0 into 0.0 and is therefore kept as a rule
for integers only). Equal nodes merge because the rewriter rebuilds through one builder.
"""

import numpy as np

from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Pattern, Rule, any_of, anything, operation, rewrite_graph, rule
from banyan.compiler.ir.operations import BINARY, COMPARE, UNARY
from banyan.compiler.targets.interpreter.arithmetic import pointwise


def simplify(graph: Graph) -> Graph:
    """Fold constants, drop operations that do nothing, join runs of shape operations."""
    return rewrite_graph(graph, RULES)


_X = anything("x")


def _useless(op: str) -> Rule:
    """A cast, reshape or expand to the type that it starts from."""

    def rewrite(builder: Builder, root: Node, x: Node) -> Node | None:
        return x if x.type == root.type else None

    return Rule(f"{op} to the same type", operation(op, _X), rewrite)


def _joined(op: str) -> Rule:
    """Of two reshapes or expansions, the last shape counts."""

    def rewrite(builder: Builder, root: Node, x: Node) -> Node | None:
        return builder.add(op, (x,), shape=root.shape)

    return Rule(f"{op} of {op}", operation(op, operation(op, _X)), rewrite)


@rule("permute by identity", operation("permute", _X))
def _identity(builder: Builder, root: Node, x: Node) -> Node | None:
    return x if root.attr("order") == tuple(range(x.tensor.rank)) else None


@rule("slice of everything", operation("slice", _X))
def _whole_slice(builder: Builder, root: Node, x: Node) -> Node | None:
    whole = root.attr("step") == 1 and root.type == x.type
    return x if whole and root.attr("start") == 0 else None


@rule("permute of permute", operation("permute", operation("permute", _X, name="inner")))
def _join_permutes(builder: Builder, root: Node, x: Node, inner: Node) -> Node | None:
    first = integers(inner, "order")
    return x.permute(first[i] for i in integers(root, "order"))


@rule("double negation", operation("neg", operation("neg", _X)))
def _twice(builder: Builder, root: Node, x: Node) -> Node | None:
    return x


def _scalar(node: Node) -> Node | None:
    """The constant behind a node, seen through expand and reshape of one element."""
    while node.op in {"expand", "reshape"}:
        node = node.args[0]
    return node if node.op == "constant" else None


def _neutral(value: float, *ops: str, integers_only: bool = False) -> Rule:
    def rewrite(builder: Builder, root: Node, x: Node, c: Node) -> Node | None:
        constant = _scalar(c)
        if constant is None or constant.attr("value") != value:
            return None
        return None if integers_only and x.dtype.is_floating else x

    pattern = Pattern(frozenset(ops), (_X, anything("c")))
    return Rule(f"{'/'.join(ops)} by {value}", pattern, rewrite)


@rule("pointwise of constants", any_of(*UNARY, *BINARY, *COMPARE, "cast"))
def _fold(builder: Builder, root: Node) -> Node | None:
    """Pointwise on constants: compute it now, in the precision of the result."""
    constants = [_scalar(arg) for arg in root.args]
    known = [c for c in constants if c is not None]
    if not root.args or len(known) != len(constants):
        return None
    with np.errstate(all="ignore"):
        values = tuple(np.asarray(c.attr("value")).astype(c.dtype.numpy) for c in known)
        result = pointwise(root.op, values, dict(root.attrs))
    number = result.astype(root.dtype.numpy).item()
    return builder.number(number, root.dtype, root.shape, root.tensor.space)


RULES: tuple[Rule, ...] = (
    *(_useless(op) for op in ("cast", "reshape", "expand")),
    _identity,
    _whole_slice,
    _joined("reshape"),
    _joined("expand"),
    _join_permutes,
    _twice,
    _neutral(1, "mul", "div"),
    _neutral(1, "floordiv", integers_only=True),
    _neutral(0, "add", "sub", integers_only=True),
    _fold,
)
"""In the order they are tried."""
