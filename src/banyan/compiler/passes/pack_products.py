"""Products of two computed matrices read the second from panels, laid out on the way.

Weights of inference are packed once, when they are loaded (`pack_weights`). Training multiplies by
parameters that change with every step, by activations and by gradients: there the panels
[N/16, K/p, 16, p] are one more value of the graph. Writing them costs one pass over the matrix, and
the micro-kernels then run as fast as for weights.
"""

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import any_of, rewrite_graph, rule
from banyan.compiler.ir.operations import PANEL_COLUMNS, pack_width
from banyan.compiler.ir.packing import DEPTH_MULTIPLE, panel_shape
from banyan.compiler.ir.symbols import fixed, product, upper_bound

FEWEST_ROWS = 16
"""Rows from which packing the other side pays."""


def pack_products(graph: Graph) -> Graph:
    """Give every large product of matrices a packed right side."""
    return rewrite_graph(graph, (_pack,))


def _is_large(node: Node) -> bool:
    left, right = node.args
    fits = right.dtype in DEPTH_MULTIPLE and not dict(node.attrs).get("packed")
    is_worth_it = upper_bound(left.shape[-2]) >= FEWEST_ROWS or _behind_views(right).op == "windows"
    return fits and is_worth_it


@rule("product with panels", any_of("dot", where=_is_large))
def _pack(builder: Builder, root: Node) -> Node | None:
    left, right = root.args
    last = right.tensor.rank - 1
    transposed = dict(root.attrs).get("transpose_b") is True
    across, along = (last - 1, last) if transposed else (last, last - 1)
    columns, depth = right.shape[across], right.shape[along]
    if not isinstance(columns, int) or not isinstance(depth, int):
        return None
    if not transposed:
        panels = _seen_panels(right, columns, depth)
        return builder.add("packed_dot", (left, panels), columns=columns, dtype=root.dtype)
    x = _padded(right, across, -columns % PANEL_COLUMNS)
    x = _padded(x, along, -depth % DEPTH_MULTIPLE[x.dtype])
    panels = _panels(x)
    return builder.add("packed_dot", (left, panels), columns=columns, dtype=root.dtype)


def _seen_panels(right: Node, columns: int, depth: int) -> Node:
    """[..., K, N] as [..., N/16, K/p, 16, p]: what places see; a matrix is one tap of each."""
    lead, seen = right.shape[:-2], _behind_views(right)
    if seen.op == "windows":
        x, attrs = seen.args[0], dict(seen.attrs)
    else:
        x, one = right.reshape((product(lead), depth, columns)), (1,)
        attrs = {"kernel": one, "stride": one, "dilation": one, "places": (columns,)}
        attrs["border"] = ((0, 0),)
    shape = panel_shape(columns, depth, x.dtype)
    panels = x.apply("window_panels", **attrs, shape=(x.shape[0], *shape))
    return panels.reshape((*lead, *shape))


def _behind_views(node: Node) -> Node:
    """What a matrix, or a stack of them in another order of batches, was made of."""
    while node.op == "reshape" and node.shape[-2:] == node.args[0].shape[-2:]:
        node = node.args[0]
    return node


def _panels(x: Node) -> Node:
    """[..., N, K] as [..., N/16, K/p, 16, p]."""
    *lead, columns, depth = x.shape
    width, first = pack_width(x.dtype), len(lead)
    shape = (fixed(columns) // PANEL_COLUMNS, PANEL_COLUMNS, fixed(depth) // width, width)
    order = (*range(first), *(first + axis for axis in (0, 2, 1, 3)))
    return x.reshape((*lead, *shape)).permute(order)


def _padded(x: Node, axis: int, high: int) -> Node:
    if high == 0:
        return x
    zero: int | float = 0.0 if x.dtype.is_floating else 0
    return x.apply("pad", axis=axis, low=0, high=high, value=zero)
