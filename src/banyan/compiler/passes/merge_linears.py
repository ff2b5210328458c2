"""Linears of the same rows become one, over weights that lie behind each other.

Queries, keys and values of an attention layer are three products with the same left side. One
product over the joined weights reads the rows once and starts one kernel instead of three. The
weights stay inputs of their own: `concat` of them costs nothing, because whoever loads them puts
each right behind the one before. A linear with an epilogue keeps its own kernel.
"""

from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild
from banyan.compiler.ir.operations import PANEL_COLUMNS, POINTWISE
from banyan.compiler.ir.packing import DEPTH_MULTIPLE

_Key = tuple[Node, tuple[object, ...]]


def merge_linears(graph: Graph) -> Graph:
    """Join the weights of linears that share their rows, and cut the result into theirs."""
    families = _families(graph)
    builder = Builder()
    new = {node: rebuild(builder, node, ()) for node in graph.inputs}
    for node in graph.nodes():
        if node in new:
            continue
        family = families.get(node)
        if family is None:
            new[node] = rebuild(builder, node, tuple(new[arg] for arg in node.args))
        else:
            _merge(builder, family, new)
    return Graph(
        graph.name,
        tuple(new[node] for node in graph.inputs),
        tuple(Output(o.name, new[o.node], o.updates) for o in graph.outputs),
    )


def _families(graph: Graph) -> dict[Node, tuple[Node, ...]]:
    """For each linear that is merged: all that are merged with it."""
    users: dict[Node, list[Node]] = {}
    for node in graph.nodes():
        for arg in node.args:
            users.setdefault(arg, []).append(node)
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


def _merge(builder: Builder, family: tuple[Node, ...], new: dict[Node, Node]) -> None:
    first = family[0]
    rows = new[first.args[0]]
    weight = builder.add("concat", [new[node.args[1]] for node in family], axis=0)
    product = builder.add("dot", (rows, weight), **dict(first.attrs))
    axis, start = product.tensor.rank - 1, 0
    for node in family:
        columns = node.shape[-1]
        if not isinstance(columns, int):
            raise TypeError("a weight has fixed sizes")
        stop = start + columns
        new[node] = builder.add("slice", (product,), axis=axis, start=start, stop=stop, step=1)
        start = stop
