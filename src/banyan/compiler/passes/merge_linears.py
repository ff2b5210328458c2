"""Linears of the same rows become one, over weights that lie behind each other.

Queries, keys and values of an attention layer are three products with the same left side. One
product over the joined weights reads the rows once and starts one kernel instead of three. The
weights stay inputs of their own: `concat` of them costs nothing, because whoever loads them puts
each right behind the one before. So it is with biases (linears without one come last) and with the
scales and zeros of quantised weights. A linear with another epilogue keeps its own kernel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from banyan.compiler.ir.graph import Builder, Graph, Node, rebuild
from banyan.compiler.ir.groups import users_of
from banyan.compiler.ir.match import rebuild_graph
from banyan.compiler.ir.operations import PANEL_COLUMNS, POINTWISE
from banyan.compiler.ir.packing import AS_IT_IS, DEPTH_MULTIPLE
from banyan.compiler.ir.quantized import BLOCK_COLUMNS
from banyan.compiler.ir.symbols import fixed

_Users: TypeAlias = Mapping[Node, Sequence[Node]]


@dataclass(frozen=True, slots=True)
class _Linear:
    """Attributes:
    product: rows times the weight.
    bias: the vector added to each row, if any.
    result: the sum, in the element type that the model goes on with.
    """

    product: Node
    bias: Node | None
    result: Node

    @property
    def weights(self) -> tuple[Node, ...]:
        """The packed parts of the weight."""
        return self.product.args[1:]

    @property
    def columns(self) -> int:
        """How many numbers it makes of a row."""
        return fixed(self.product.shape[-1])


_Family: TypeAlias = Sequence[_Linear]


def merge_linears(graph: Graph) -> Graph:
    """Join the weights of linears that share their rows, and cut the result into theirs."""
    families = _families(graph)
    of_result = {linear.result: family for family in families for linear in family}
    linears = list(chain(*families))
    products = {linear.product for linear in linears}
    biases = {linear.bias for linear in linears if linear.bias is not None}
    rows: dict[Node, Node] = {}

    def rewrite(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
        if node in biases:
            return builder.input(str(node.attr("name")), node.tensor, "weight", AS_IT_IS)
        if node in products:
            rows[node.args[0]] = args[0]
        family = of_result.get(node)
        if family is None:
            return rebuild(builder, node, args)
        return _part(builder, family, node, rows[family[0].product.args[0]])

    return rebuild_graph(graph, rewrite)


def _families(graph: Graph) -> list[_Family]:
    """Linears that are merged with each other, those with a bias first."""
    users = users_of(graph.nodes())
    results = {output.node for output in graph.outputs}
    found: dict[tuple[object, ...], list[_Linear]] = {}
    for node in graph.nodes():
        if _has_whole_panels(node) and node not in results:
            linear = _with_bias(node, users, results)
            parts = {*linear.weights, *([] if linear.bias is None else [linear.bias])}
            alone = all(len(users[part]) == 1 for part in parts) and not parts & results
            follow = users[linear.result]
            bare = not any(u.op in POINTWISE and u.shape == node.shape for u in follow)
            if alone and bare and linear.result not in results:
                found.setdefault(_key(linear), []).append(linear)
    sorted_ = [sorted(family, key=lambda linear: linear.bias is None) for family in found.values()]
    return [family for family in sorted_ if len(family) > 1 and _rounds_alike(family)]


def _key(linear: _Linear) -> tuple[object, ...]:
    """What linears share that can be merged."""
    attrs: dict[str, Any] = dict(linear.product.attrs)
    attrs |= {"columns": None, "dtype": linear.result.dtype}
    kinds = (part.dtype for part in linear.weights)
    return (linear.product.args[0], linear.product.op, *kinds, *sorted(attrs.items()))


def _rounds_alike(family: _Family) -> bool:
    kinds = {(x.bias.dtype, x.product.dtype) for x in family if x.bias is not None}
    return len(kinds) < 2


def _has_whole_panels(node: Node) -> bool:
    """Is it a product with weights that others may lie right behind?"""
    if not all(arg.op == "input" and arg.attr("role") == "weight" for arg in node.args[1:]):
        return False
    if node.op == "quantized_dot":
        return fixed(node.shape[-1]) % BLOCK_COLUMNS == 0
    if node.op != "dot" or dict(node.attrs).get("transpose_b") is not True:
        return False
    weight = node.args[1]
    known = weight.tensor.rank == 2 and all(isinstance(size, int) for size in weight.shape)
    return known and weight.dtype in DEPTH_MULTIPLE and fixed(weight.shape[0]) % PANEL_COLUMNS == 0


def _with_bias(product: Node, users: _Users, results: set[Node]) -> _Linear:
    """The product with the bias behind it, and with the cast behind that."""
    plain = _Linear(product, None, product)
    following = users[product]
    if len(following) != 1 or following[0].op != "add" or following[0] in results:
        return plain
    total = following[0]
    grown = total.args[0] if total.args[1] is product else total.args[1]
    bias = grown.args[0] if grown.op == "expand" else grown
    bias = bias.args[0] if bias.op == "cast" else bias
    is_weight = bias.op == "input" and bias.attr("role") == "weight"
    if not is_weight or bias.shape != product.shape[-1:] or bias.attr("packing") is not None:
        return plain
    casts = [user for user in users[total] if user.op == "cast"]
    return _Linear(product, bias, casts[0] if casts == users[total] != [] else total)


def _part(builder: Builder, family: _Family, node: Node, rows: Node) -> Node:
    """The columns of `node` in the product that the family has become, the same for all."""
    first, total = family[0].product, sum(linear.columns for linear in family)
    weights = [
        builder.add("concat", [rebuild(builder, part, ()) for part in parts], axis=0)
        for parts in zip(*(linear.weights for linear in family), strict=True)
    ]
    attrs: dict[str, Any] = dict(first.attrs)
    if "columns" in attrs:
        attrs["columns"] = total
    x = builder.add(first.op, (rows, *weights), **attrs)
    biases = [linear.bias for linear in family if linear.bias is not None]
    if biases:
        x = x + _bias(builder, biases, x)
    places = [linear.result for linear in family]
    start = sum(linear.columns for linear in family[: places.index(node)])
    stop = start + fixed(node.shape[-1])
    return x.cast(node.dtype).slice(x.tensor.rank - 1, start, stop)


def _bias(builder: Builder, biases: Sequence[Node], product: Node) -> Node:
    """Biases one behind the other, and zeros for the linears that have none."""
    parts = [
        builder.input(str(bias.attr("name")), bias.tensor, "weight", AS_IT_IS) for bias in biases
    ]
    joined = builder.add("concat", parts, axis=0) if len(parts) > 1 else parts[0]
    missing = fixed(product.shape[-1]) - fixed(joined.shape[0])
    if missing:
        joined = builder.add("pad", (joined,), axis=0, low=0, high=missing, value=0.0)
    return joined.cast(product.dtype)
