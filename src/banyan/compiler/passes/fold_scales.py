"""Constant factors meet: with each other, and with the factor that attention applies anyway.

Only powers of two move, because products with them lose no bit as long as none is subnormal or
overflows: the numbers stay those of the model as it was written. Other factors stay where they are.
Folding them into a weight (a norm's into the linear behind it, say) would round every weight once
more and drop a rounding that the model asks for, and it would save nothing: a factor of a row or a
column is applied in the kernel that has the element in a register, before or after the product.
What a factor between a linear and attention costs is `merge_linears`: without it queries join keys
and values.
"""

import math
from typing import Any

from banyan.compiler.ir.graph import Builder, Graph, Node, rebuild
from banyan.compiler.ir.match import Rule, any_of, anything, operation, rewrite_graph, rule
from banyan.compiler.ir.types import DType

MOST_DOUBLINGS = 16
"""Larger factors might leave the range of numbers on the way."""

_MOVEMENT = frozenset({"reshape", "permute", "expand"})


def fold_scales(graph: Graph) -> Graph:
    """Multiply constants with each other instead of with tensors, where that is exact."""
    return rewrite_graph(graph, RULES)


def _constant(node: Node) -> float | None:
    """The number that a floating tensor holds everywhere, if it is known.

    Not of float16, where what a product makes small loses bits.
    """
    while node.op in {"expand", "reshape"}:
        node = node.args[0]
    value = dict(node.attrs).get("value") if node.op == "constant" else None
    return value if isinstance(value, float) and node.dtype is not DType.FLOAT16 else None


def _is_shift(value: float) -> bool:
    """Is it a power of two, so that products with it are exact?"""
    mantissa, exponent = math.frexp(value)
    return mantissa == 0.5 and abs(exponent) <= MOST_DOUBLINGS


@rule(
    "product of a product with constants",
    operation("mul", operation("mul", anything("x"), anything("a")), anything("b")),
)
def _multiply(builder: Builder, root: Node, x: Node, a: Node, b: Node) -> Node | None:
    first, second = _constant(a), _constant(b)
    if first is None or second is None or not (_is_shift(first) or _is_shift(second)):
        return None
    return x * (first * second)


@rule("attention of a product with a constant", any_of("attention_forward"))
def _attend(builder: Builder, root: Node) -> Node | None:
    """(c q) k = c (q k), whichever of the two is multiplied."""
    query, key, *rest = root.args
    found = [_unscaled(builder, x) for x in (query, key)]
    attrs: dict[str, Any] = dict(root.attrs)
    scale = attrs["scale"] * math.prod(factor for _, factor in found)
    if scale == attrs["scale"]:
        return None
    args = (*(x for x, _ in found), *rest)
    return builder.add("attention_forward", args, **{**attrs, "scale": scale})


def _unscaled(builder: Builder, node: Node) -> tuple[Node, float]:
    """The node without a product with a power of two, looked for behind movements; the power."""
    if node.op in _MOVEMENT:
        inner, factor = _unscaled(builder, node.args[0])
        return (node if factor == 1 else rebuild(builder, node, (inner,))), factor
    known = _constant(node.args[1]) if node.op == "mul" else None
    return (node.args[0], known) if known is not None and _is_shift(known) else (node, 1.0)


RULES: tuple[Rule, ...] = (_multiply, _attend)
