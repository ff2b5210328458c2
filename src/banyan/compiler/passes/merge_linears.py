"""Linears of the same rows become one, over weights that lie behind each other.

Queries, keys and values of an attention layer are three products with the same left side. One
product over the joined weights reads the rows once and starts one kernel instead of three. The
weights stay inputs of their own: `concat` of them costs nothing, because whoever loads them puts
each right behind the one before. A linear with an epilogue keeps its own kernel.
"""

from banyan.compiler.ir.graph import Builder, Graph, Node, rebuild, users_of
from banyan.compiler.ir.match import rebuild_graph
from banyan.compiler.ir.operations import PANEL_COLUMNS, POINTWISE
from banyan.compiler.ir.packing import DEPTH_MULTIPLE
from banyan.compiler.ir.symbols import fixed

_Key = tuple[Node, tuple[object, ...]]


def merge_linears(graph: Graph) -> Graph:
    """Join the weights of linears that share their rows, and cut the result into theirs."""
    families = _families(graph)

    def rewrite(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
        family = families.get(node)
        return _part(builder, family, node, args[0]) if family else rebuild(builder, node, args)

    return rebuild_graph(graph, rewrite)


def _families(graph: Graph) -> dict[Node, tuple[Node, ...]]:
    """For each linear that is merged: all that are merged with it."""
    users = users_of(graph)
    results = {output.node for output in graph.outputs}
    found: dict[_Key, list[Node]] = {}
    for node in graph.nodes():
        if _is_plain_linear(node) and not {node, node.args[1]} & results:
            alone = len(users[node.args[1]]) == 1
            bare = not any(u.op in POINTWISE and u.shape == node.shape for u in users[node])
            if alone and bare:
                key = (node.args[0], (node.args[1].dtype, *node.attrs))
                found.setdefault(key, []).append(node)
    return {node: tuple(family) for family in found.values() if len(family) > 1 for node in family}


def _is_plain_linear(node: Node) -> bool:
    if node.op != "dot" or dict(node.attrs).get("transpose_b") is not True:
        return False
    weight = node.args[1]
    if weight.op != "input" or weight.attr("role") != "weight" or weight.tensor.rank != 2:
        return False
    columns, depth = weight.shape
    whole = isinstance(columns, int) and isinstance(depth, int) and columns % PANEL_COLUMNS == 0
    return whole and weight.dtype in DEPTH_MULTIPLE


def _part(builder: Builder, family: tuple[Node, ...], node: Node, rows: Node) -> Node:
    """The columns of `node` in the product that the family has become, the same for all."""
    weights = [rebuild(builder, linear.args[1], ()) for linear in family]
    weight = builder.add("concat", weights, axis=0)
    product = builder.add("dot", (rows, weight), **dict(node.attrs))
    before = family[: family.index(node)]
    start = sum(fixed(linear.shape[-1]) for linear in before)
    return product.slice(product.tensor.rank - 1, start, start + fixed(node.shape[-1]))
