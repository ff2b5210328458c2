"""Weights that are only multiplied by change to the layout the micro-kernels read.

A [N, K] weight becomes panels [N/16, K/p, 16, p] and `dot` becomes `packed_dot`. A weight that is
also an embedding table (tied) is read from the panels too, so that one copy is resident. Weights of
experts [E, N, K] become stacks of panels, seen by `grouped_dot` through a view.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from banyan.compiler.ir.graph import Builder, Graph, Node, rebuild
from banyan.compiler.ir.match import rebuild_graph
from banyan.compiler.ir.operations import PANEL_COLUMNS, pack_width
from banyan.compiler.ir.packing import DEPTH_MULTIPLE, panel_shape
from banyan.compiler.ir.symbols import Dim, fixed
from banyan.compiler.ir.types import TensorType

_Uses: TypeAlias = Mapping[Node, Sequence[tuple[Node, int]]]


def pack_weights(graph: Graph) -> Graph:
    """Change layouts where every use of a weight allows it."""
    uses: dict[Node, list[tuple[Node, int]]] = {}
    for node in graph.nodes():
        for place, arg in enumerate(node.args):
            uses.setdefault(arg, []).append((node, place))
    results = {output.node for output in graph.outputs}
    joined = {node for node in graph.nodes() if _is_joined(node, uses, results)}
    chosen = _choose(graph, uses, results, joined)

    def rewrite(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
        if node in chosen:
            return _packed_input(builder, node, chosen[node])
        weight = next((arg for arg in node.args if arg in chosen or arg in joined), None)
        if weight is None or node in joined:
            return rebuild(builder, node, args)
        return _USERS[node.op](builder, node, args, weight)

    return rebuild_graph(graph, rewrite)


def _choose(graph: Graph, uses: _Uses, results: set[Node], joined: set[Node]) -> dict[Node, str]:
    """The packing of each weight that can be packed."""
    chosen = {weight: "panels" for node in joined for weight in node.args}
    for weight in graph.inputs:
        if weight.attr("role") != "weight" or weight in results or not _fits(weight):
            continue
        packing = _packing(uses.get(weight, ()))
        if packing is not None:
            chosen[weight] = packing
    return chosen


def _is_joined(node: Node, uses: _Uses, results: set[Node]) -> bool:
    """Is it weights that can lie in memory one behind the other, as panels?

    `merge_linears` writes no others, but a model may join its weights itself: those that do not
    fill their panels, or that something else reads, are joined as the model says.
    """
    if node.op != "concat" or node.attr("axis") != 0 or node.tensor.rank != 2:
        return False
    if results.intersection((node, *node.args)) or _packing(uses.get(node, ())) != "panels":
        return False
    return all(
        weight.op == "input"
        and weight.attr("role") == "weight"
        and len(uses[weight]) == 1
        and _fits(weight)
        and fixed(weight.shape[0]) % PANEL_COLUMNS == 0
        for weight in node.args
    )


def _packing(uses: Sequence[tuple[Node, int]]) -> str | None:
    if uses and all(user.op == "grouped_dot" and place == 1 for user, place in uses):
        return "stacked_panels"
    multiplied = any(_is_product(user, place) for user, place in uses)
    fitting = all(_is_product(user, place) or _is_lookup(user, place) for user, place in uses)
    return "panels" if multiplied and fitting else None


def _fits(weight: Node) -> bool:
    whole = all(isinstance(size, int) for size in weight.shape)
    return whole and weight.dtype in DEPTH_MULTIPLE and weight.tensor.rank in {2, 3}


def _is_product(user: Node, place: int) -> bool:
    plain = user.op == "dot" and place == 1 and user.args[1].tensor.rank == 2
    return plain and user.attr("transpose_b") is True


def _is_lookup(user: Node, place: int) -> bool:
    depth = user.args[0].shape[-1] if user.args else 0
    aligned = isinstance(depth, int) and depth % pack_width(user.args[0].dtype) == 0
    return user.op == "gather" and place == 0 and user.attr("axis") == 0 and aligned


def _packed_input(builder: Builder, node: Node, packing: str) -> Node:
    *stack, columns, depth = (fixed(size) for size in node.shape)
    shape: tuple[Dim, ...] = (*stack, *panel_shape(columns, depth, node.dtype))
    return builder.input(
        str(node.attr("name")), TensorType(shape, node.dtype), str(node.attr("role")), packing
    )


def _packed_dot(builder: Builder, node: Node, args: tuple[Node, ...], weight: Node) -> Node:
    return builder.add("packed_dot", args, columns=weight.shape[0], dtype=node.dtype)


def _lookup(builder: Builder, node: Node, args: tuple[Node, ...], weight: Node) -> Node:
    return builder.add("gather", (_as_it_was(args[0], weight), args[1]), axis=0)


def _grouped_dot(builder: Builder, node: Node, args: tuple[Node, ...], weight: Node) -> Node:
    rows, panels, experts = args
    plain = _as_it_was(panels, weight)
    return builder.add("grouped_dot", (rows, plain, experts), **dict(node.attrs))


def _as_it_was(panels: Node, weight: Node) -> Node:
    """The weight [..., N, K] as a view of its panels, cut to its true size."""
    *stack, groups, lines, columns, width = panels.shape
    lead = tuple(range(len(stack)))
    order = (*lead, *(len(lead) + axis for axis in (0, 2, 1, 3)))
    table = panels.permute(order).reshape((*stack, groups * columns, lines * width))
    return table.first_places(weight.shape)


_USERS: dict[str, Callable[[Builder, Node, tuple[Node, ...], Node], Node]] = {
    "dot": _packed_dot,
    "gather": _lookup,
    "grouped_dot": _grouped_dot,
}
