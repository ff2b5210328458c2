"""The layout of packed weights, as the types of graphs know it."""

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import PANEL_COLUMNS, pack_width
from banyan.compiler.ir.types import DType

DEPTH_MULTIPLE = {DType.BFLOAT16: 32, DType.FLOAT32: 1}
"""The contracted dim of 16-bit panels is padded to whole matrix-unit tiles."""


def panel_shape(columns: int, depth: int, dtype: DType) -> tuple[int, int, int, int]:
    """The shape in which a [columns, depth] weight is stored as panels."""
    width = pack_width(dtype)
    multiple = DEPTH_MULTIPLE[dtype]
    padded = -(-depth // multiple) * multiple
    return -(-columns // PANEL_COLUMNS), padded // width, PANEL_COLUMNS, width


def stored_weight(weight: Node) -> Node:
    """The packed input behind the view that `pack_weights` wrote, or the weight itself."""
    node = weight
    while node.op in {"slice", "reshape", "permute"}:
        node = node.args[0]
    packed = node.op == "input" and node.attr("packing") == "stacked_panels"
    return node if packed else weight
