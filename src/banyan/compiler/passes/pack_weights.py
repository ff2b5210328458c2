"""Weights that are only multiplied by change to the layout the micro-kernels read.

A [N, K] weight becomes panels [N/16, K/p, 16, p] and `dot` becomes `packed_dot`. A weight that is
also an embedding table (tied) is read from the panels too, so that one copy is resident.
"""

from collections.abc import Callable

from banyan.compiler.ir.graph import Builder, Graph, Node, Output, rebuild
from banyan.compiler.ir.operations import PANEL_COLUMNS, pack_width
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType, TensorType

DEPTH_MULTIPLE = {DType.BFLOAT16: 32, DType.FLOAT32: 1}
"""The contracted dim of 16-bit panels is padded to whole matrix-unit tiles."""


def panel_shape(columns: int, depth: int, dtype: DType) -> tuple[int, int, int, int]:
    """The shape in which a [columns, depth] weight is stored as panels."""
    width = pack_width(dtype)
    multiple = DEPTH_MULTIPLE[dtype]
    padded = -(-depth // multiple) * multiple
    return -(-columns // PANEL_COLUMNS), padded // width, PANEL_COLUMNS, width


def pack_weights(graph: Graph) -> Graph:
    """Change layouts where every use of a weight allows it."""
    chosen = _choose(graph)
    builder = Builder()
    new: dict[Node, Node] = {}
    for node in graph.nodes():
        args = tuple(new[arg] for arg in node.args)
        new[node] = _rewritten(builder, node, args, chosen)
    return Graph(
        graph.name,
        tuple(new[node] for node in graph.inputs),
        tuple(Output(o.name, new[o.node], o.updates) for o in graph.outputs),
    )


def _choose(graph: Graph) -> dict[Node, str]:
    """The packing of each weight that can be packed."""
    uses: dict[Node, list[tuple[Node, int]]] = {}
    for node in graph.nodes():
        for place, arg in enumerate(node.args):
            uses.setdefault(arg, []).append((node, place))
    results = {output.node for output in graph.outputs}
    chosen: dict[Node, str] = {}
    for weight in graph.inputs:
        if weight.attr("role") != "weight" or weight in results or not _fits(weight):
            continue
        found = uses.get(weight, [])
        if any(_is_product(user, place) for user, place in found) and all(
            _is_product(user, place) or _is_lookup(user, place) for user, place in found
        ):
            chosen[weight] = "panels"
    return chosen


def _fits(weight: Node) -> bool:
    whole = all(isinstance(size, int) for size in weight.shape)
    packable = weight.dtype in DEPTH_MULTIPLE
    return whole and packable and weight.tensor.rank == 2


def _is_product(user: Node, place: int) -> bool:
    return user.op == "dot" and place == 1 and user.attr("transpose_b") is True


def _is_lookup(user: Node, place: int) -> bool:
    depth = user.args[0].shape[-1] if user.args else 0
    aligned = isinstance(depth, int) and depth % pack_width(user.args[0].dtype) == 0
    return user.op == "gather" and place == 0 and user.attr("axis") == 0 and aligned


def _rewritten(
    builder: Builder, node: Node, args: tuple[Node, ...], chosen: dict[Node, str]
) -> Node:
    if node in chosen:
        return _packed_input(builder, node, chosen[node])
    weight = next((arg for arg in node.args if arg in chosen), None)
    if weight is None:
        return rebuild(builder, node, args)
    return _USERS[node.op](builder, node, args, weight)


def _packed_input(builder: Builder, node: Node, packing: str) -> Node:
    columns, depth = (_static(size) for size in node.shape)
    shape: tuple[Dim, ...] = panel_shape(columns, depth, node.dtype)
    return builder.input(
        str(node.attr("name")), TensorType(shape, node.dtype), str(node.attr("role")), packing
    )


def _static(size: Dim) -> int:
    if not isinstance(size, int):
        raise TypeError("a weight has fixed sizes")
    return size


def _packed_dot(builder: Builder, node: Node, args: tuple[Node, ...], weight: Node) -> Node:
    return builder.add("packed_dot", args, columns=weight.shape[0], dtype=node.dtype)


def _lookup(builder: Builder, node: Node, args: tuple[Node, ...], weight: Node) -> Node:
    """Rows of the weight as it was: a view of the panels, cut to the true row length."""
    panels = args[0]
    groups, lines, columns, width = (_static(size) for size in panels.shape)
    rows = builder.add("permute", (panels,), order=(0, 2, 1, 3))
    table = builder.add("reshape", (rows,), shape=(groups * columns, lines * width))
    if weight.shape[1] != lines * width:
        table = builder.add("slice", (table,), axis=1, start=0, stop=weight.shape[1], step=1)
    return builder.add("gather", (table, args[1]), axis=0)


_USERS: dict[str, Callable[[Builder, Node, tuple[Node, ...], Node], Node]] = {
    "dot": _packed_dot,
    "gather": _lookup,
}
