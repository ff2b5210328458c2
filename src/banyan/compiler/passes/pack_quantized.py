"""Quantised linear layers take their weights in the layout of kernels, and rows quantised once.

Weight, scales and zeros of a `quantized_linear` become blocks of 64 columns, where nothing else
reads them. Activations that the layer wants as integers are quantised by a node of their own; all
layers that read the same activations with the same groups share it. An embedding table in int8 or
int4 that is also the weight of a layer (tied) is read from the blocks too, so that one copy is
resident.
"""

from collections.abc import Collection

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Builder, Graph, Node, rebuild
from banyan.compiler.ir.match import rebuild_graph
from banyan.compiler.ir.packing import QUANTIZED_BYTES, QUANTIZED_NIBBLES, columns_packing
from banyan.compiler.ir.quantized import BLOCK_COLUMNS, weight_shape
from banyan.compiler.ir.symbols import fixed, product
from banyan.compiler.ir.types import DType, TensorType

GROUP_MULTIPLE = 8
"""Groups start lines of packed weights."""

LARGEST_DEPTH = 1 << 16
"""Contracted size up to which sums of products of bytes fit 32 bits."""


def pack_quantized(graph: Graph, formats: Collection[str]) -> Graph:
    """Pack the layers of these formats; others stay as they are."""
    chosen = _choose(graph, formats)

    def rewrite(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
        if node in chosen:
            return builder.input(str(node.attr("name")), *chosen[node])
        if node.op == "quantized_linear" and node.args[1] in chosen:
            return _packed_layer(builder, node, args)
        if node.op == "gather" and node.args[0] in chosen:
            return _lookup(builder, node, args)
        if node.op == "unpack" and node.args[0].op == "gather" and node.args[0].args[0] in chosen:
            return _numbers_in_order(args[0], fixed(node.shape[-1]))
        return rebuild(builder, node, args)

    return rebuild_graph(graph, rewrite)


Stored = tuple[TensorType, str, str]
"""Type, role and packing of a packed input."""


def _choose(graph: Graph, formats: Collection[str]) -> dict[Node, Stored]:
    """How to store each input of the layers that can be packed whole."""
    uses: dict[Node, set[Stored | None]] = {output.node: {None} for output in graph.outputs}
    unpacked = _only_unpacked(graph)
    layers: list[Node] = []
    for node in graph.nodes():
        fits = node.op == "quantized_linear" and _fits(node, formats)
        layers += [node] if fits else []
        for place, arg in enumerate(node.args):
            wanted = _stored(node, place) if fits and place > 0 else None
            if not _is_lookup(node, place, unpacked):
                uses.setdefault(arg, set()).add(wanted)
    whole = [node for node in layers if all(_one_use(uses[arg]) for arg in node.args[1:])]
    parts = {node: frozenset(node.args[1:]) for node in layers}
    kept = frozenset[Node]().union(*(parts[node] for node in layers if node not in whole))
    chosen: dict[Node, Stored] = {}
    for node in whole:
        if not parts[node] & kept:
            chosen |= {arg: _stored(node, i + 1) for i, arg in enumerate(node.args[1:])}
    return chosen


def _one_use(found: set[Stored | None]) -> bool:
    return len(found) == 1 and None not in found


def _only_unpacked(graph: Graph) -> frozenset[Node]:
    """Nodes that nothing reads but `unpack`."""
    users: dict[Node, set[str]] = {output.node: {"output"} for output in graph.outputs}
    for node in graph.nodes():
        for arg in node.args:
            users.setdefault(arg, set()).add(node.op)
    return frozenset(node for node, found in users.items() if found == {"unpack"})


def _is_lookup(user: Node, place: int, unpacked: Collection[Node]) -> bool:
    """Does it read rows of an int8 or int4 weight, or their scales?"""
    if user.op != "gather" or place != 0 or user.attr("axis") != 0:
        return False
    known = user.args[0].dtype in {DType.INT8, DType.FLOAT32}
    return known or (user.args[0].dtype is DType.UINT8 and user in unpacked)


def _fits(node: Node, formats: Collection[str]) -> bool:
    inputs = all(a.op == "input" and a.attr("role") == "weight" for a in node.args[1:])
    depth = node.args[0].shape[-1]
    known = isinstance(depth, int) and depth <= LARGEST_DEPTH
    exact = node.attr("format") != "fp8" or node.attr("activation") == "plain"
    group = integer(node, "group")
    whole = group % GROUP_MULTIPLE == 0 or (isinstance(depth, int) and group >= depth)
    floating = node.args[0].dtype in {DType.FLOAT32, DType.BFLOAT16}
    return node.attr("format") in formats and inputs and known and exact and whole and floating


def _stored(node: Node, place: int) -> Stored:
    columns, depth = fixed(node.shape[-1]), fixed(node.args[0].shape[-1])
    layout = str(node.attr("format"))
    if place == 1:
        kind = TensorType(weight_shape(layout, columns, depth), DType.UINT8)
        return kind, "weight", QUANTIZED_NIBBLES if layout == "int4" else QUANTIZED_BYTES
    rows = integer(node, "rows") if "rows" in dict(node.attrs) else 1
    part = node.args[place]
    shape = (-(-columns // BLOCK_COLUMNS), part.shape[1], BLOCK_COLUMNS)
    return TensorType(shape, part.dtype), "weight", columns_packing(rows)


def _packed_layer(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
    x, *weights = args
    depth = fixed(x.shape[-1])
    group = min(integer(node, "group"), depth)
    rows = x.reshape((product(x.shape[:-1]), depth))
    if node.attr("activation") == "int8":
        rows = rows.apply("quantize_rows", group=group)
    attrs = {key: node.attr(key) for key in ("format", "activation", "dtype")}
    sizes = {"group": group, "depth": depth, "columns": fixed(node.shape[-1])}
    return builder.add("quantized_dot", (rows, *weights), **attrs, **sizes).reshape(node.shape)


def _lookup(builder: Builder, node: Node, args: tuple[Node, ...]) -> Node:
    """Rows of what is packed now, as they were; of nibbles in the order of lines."""
    blocks, rows = args
    count, lines, width = (fixed(size) for size in blocks.shape)
    shape = node.args[0].shape
    if blocks.dtype is DType.FLOAT32:  # scales [N/64, G, 64]
        turned = blocks.permute((0, 2, 1)).reshape((count * width, lines))
        return builder.add("gather", (turned.first_places(shape), rows), axis=0)
    # Bytes [N/64, K/4 or K/8, 64 * 4]: of each four the middle two change places.
    split = blocks.reshape((count, lines, BLOCK_COLUMNS, 2, 2)).permute((0, 2, 1, 4, 3))
    turned = split.reshape((count * BLOCK_COLUMNS, lines * 4))
    if node.dtype is DType.UINT8:
        return builder.add("gather", (turned.first_places((shape[0], lines * 4)), rows), axis=0)
    found = builder.add("gather", (turned.first_places(shape), rows), axis=0).cast(DType.INT32)
    return (found - 128).cast(node.dtype)  # 128 stands for 0


def _numbers_in_order(found: Node, depth: int) -> Node:
    """u8[..., depth] out of bytes in the order of lines: four low halves, then four high ones."""
    *lead, width = found.shape
    fours = found.reshape((*lead, fixed(width) // 4, 1, 4))
    halves = found.builder.add("concat", (fours & 15, fours // 16), axis=len(lead) + 1)
    numbers = halves.reshape((*lead, 2 * fixed(width)))
    return numbers.first_places((*lead, depth))
