"""Products of two computed matrices read the second from panels, laid out on the way.

Weights of inference are packed once, when they are loaded (`pack_weights`). Training multiplies by
parameters that change with every step, by activations and by gradients: there the panels
[N/16, K/p, 16, p] are one more value of the graph. Writing them costs one pass over the matrix, and
the micro-kernels then run as fast as for weights.
"""

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import any_of, rewrite_graph, rule
from banyan.compiler.ir.operations import PANEL_COLUMNS, pack_width
from banyan.compiler.ir.packing import DEPTH_MULTIPLE
from banyan.compiler.ir.symbols import fixed, upper_bound

FEWEST_ROWS = 16
"""Rows from which packing the other side pays."""


def pack_products(graph: Graph) -> Graph:
    """Give every large product of matrices a packed right side."""
    return rewrite_graph(graph, (_pack,))


def _is_large(node: Node) -> bool:
    left, right = node.args
    fits = right.dtype in DEPTH_MULTIPLE and not dict(node.attrs).get("packed")
    return fits and upper_bound(left.shape[-2]) >= FEWEST_ROWS


@rule("product with panels", any_of("dot", where=_is_large))
def _pack(builder: Builder, root: Node) -> Node | None:
    left, right = root.args
    last = right.tensor.rank - 1
    transposed = dict(root.attrs).get("transpose_b") is True
    across, along = (last - 1, last) if transposed else (last, last - 1)
    columns, depth = right.shape[across], right.shape[along]
    if not isinstance(columns, int) or not isinstance(depth, int):
        return None
    x = _padded(right, across, -columns % PANEL_COLUMNS)
    x = _padded(x, along, -depth % DEPTH_MULTIPLE[x.dtype])
    panels = _panels(x, across, along)
    return builder.add("packed_dot", (left, panels), columns=columns, dtype=root.dtype)


def _panels(x: Node, across: int, along: int) -> Node:
    """[..., N, K] or [..., K, N], whichever axes they are, as [..., N/16, K/p, 16, p]."""
    width, lead = pack_width(x.dtype), x.shape[:-2]
    first = len(lead)
    groups, lines = fixed(x.shape[across]) // PANEL_COLUMNS, fixed(x.shape[along]) // width
    batch = tuple(range(first))
    if across < along:
        shape, order = (groups, PANEL_COLUMNS, lines, width), (0, 2, 1, 3)
    else:
        shape, order = (lines, width, groups, PANEL_COLUMNS), (2, 0, 3, 1)
    split = x.reshape((*lead, *shape))
    return split.permute((*batch, *(first + axis for axis in order)))


def _padded(x: Node, axis: int, high: int) -> Node:
    if high == 0:
        return x
    zero: int | float = 0.0 if x.dtype.is_floating else 0
    return x.apply("pad", axis=axis, low=0, high=high, value=zero)
