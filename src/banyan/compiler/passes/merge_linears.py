"""Linears of the same rows become one, over weights that lie behind each other.

Queries, keys and values of an attention layer are three products with the same left side. One
product over the joined weights reads the rows once and starts one kernel instead of three. The
weights stay inputs of their own: `concat` of them costs nothing, because whoever loads them puts
each right behind the one before. So it is with biases (linears without one come last) and with the
scales and zeros of quantised weights. What adapters add to each (`low_rank`) is one tensor for all
of them and is added once. A linear with another epilogue keeps its own kernel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    change: the part of a `low_rank` that is added to it, if any; `result` has it in.
    """

    product: Node
    bias: Node | None
    result: Node
    change: Node | None = None

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
    changes: dict[Node, Node] = {}

    def rewrite(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
        if node.op == "low_rank":
            changes[node] = rebuild(builder, node, args)
            return changes[node]
        if node in biases:
            return builder.input(str(node.attr("name")), node.tensor, "weight", AS_IT_IS)
        if node in products:
            rows[node.args[0]] = args[0]
        family = of_result.get(node)
        if family is None:
            return rebuild(builder, node, args)
        joined = _joined(builder, family, rows[family[0].product.args[0]])
        if family[0].change is not None:
            joined = joined.cast(node.dtype) + changes[_change_source(family[0].change)]
        return _part(joined, family, node)

    return rebuild_graph(graph, rewrite)


def _families(graph: Graph) -> list[_Family]:
    """Linears that are merged with each other, those with a bias first."""
    users = users_of(graph.nodes())
    results = {output.node for output in graph.outputs}
    found: dict[tuple[object, ...], list[_Linear]] = {}
    for node in graph.nodes():
        if _has_whole_panels(node) and node not in results:
            linear = _with_change(_with_bias(node, users, results), users, results)
            parts = {*linear.weights, *([] if linear.bias is None else [linear.bias])}
            alone = all(len(users[part]) == 1 for part in parts) and not parts & results
            follow = users[linear.result]
            bare = not any(u.op in POINTWISE and u.shape == node.shape for u in follow)
            if alone and bare and linear.result not in results:
                found.setdefault(_key(linear), []).append(linear)
    sorted_ = [sorted(family, key=lambda linear: linear.bias is None) for family in found.values()]
    return [
        family
        for family in sorted_
        if len(family) > 1 and _rounds_alike(family) and _changes_alike(family)
    ]


def _key(linear: _Linear) -> tuple[object, ...]:
    """What linears share that can be merged."""
    attrs: dict[str, Any] = dict(linear.product.attrs)
    attrs |= {"columns": None, "dtype": linear.result.dtype}
    kinds = (part.dtype for part in linear.weights)
    source = None if linear.change is None else _change_source(linear.change)
    return (linear.product.args[0], linear.product.op, source, *kinds, *sorted(attrs.items()))


def _rounds_alike(family: _Family) -> bool:
    kinds = {(x.bias.dtype, x.product.dtype) for x in family if x.bias is not None}
    return len(kinds) < 2


def _changes_alike(family: _Family) -> bool:
    """Do the changes, if there are any, lie in one tensor in the order of the family?"""
    start = 0
    for linear in family:
        if linear.change is None:
            return True
        attrs: dict[str, Any] = dict(linear.change.attrs)
        if linear.change.op != "slice" or attrs["start"] != start:
            return False
        start += linear.columns
    source = family[0].change
    return source is None or _change_source(source).shape[-1] == start


def _change_source(change: Node) -> Node:
    return change.args[0] if change.op == "slice" else change


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


def _with_change(linear: _Linear, users: _Users, results: set[Node]) -> _Linear:
    """The linear with what adapters add to it."""
    following = users[linear.result]
    if len(following) != 1 or following[0].op != "add" or linear.result in results:
        return linear
    left, right = following[0].args
    change = right if left is linear.result else left
    if _change_source(change).op != "low_rank" or change.shape != linear.product.shape:
        return linear
    return replace(linear, result=following[0], change=change)


def _joined(builder: Builder, family: _Family, rows: Node) -> Node:
    """The product that the family has become, biases added."""
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
    return x + _bias(builder, biases, x) if biases else x


def _part(joined: Node, family: _Family, node: Node) -> Node:
    """The columns of `node` in what is the same for all."""
    places = [linear.result for linear in family]
    start = sum(linear.columns for linear in family[: places.index(node)])
    stop = start + fixed(node.shape[-1])
    return joined.cast(node.dtype).slice(joined.tensor.rank - 1, start, stop)


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
