"""The layout of packed weights, as the types of graphs know it."""

from itertools import pairwise

from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.operations import PANEL_COLUMNS, pack_width
from banyan.compiler.ir.types import DType

DEPTH_MULTIPLE = {DType.BFLOAT16: 32, DType.FLOAT16: 1, DType.FLOAT32: 1}
"""The contracted dim of bfloat16 panels is padded to whole matrix-unit tiles."""

QUANTIZED_BYTES, QUANTIZED_NIBBLES = "quantized_bytes", "quantized_nibbles"
_QUANTIZED_COLUMNS = "quantized_columns"
AS_IT_IS = "as_it_is"
"""Of weights that are not packed but may lie right behind others."""


def columns_packing(rows: int) -> str:
    """The packing of scales or zeros of which each holds for `rows` columns of a weight."""
    return f"{_QUANTIZED_COLUMNS}:{rows}"


def columns_for_each(packing: str) -> int | None:
    """How many columns share a scale in this packing; None for weights."""
    name, _, rows = packing.partition(":")
    return int(rows) if name == _QUANTIZED_COLUMNS else None


def panel_shape(columns: int, depth: int, dtype: DType) -> tuple[int, int, int, int]:
    """The shape in which a [columns, depth] weight is stored as panels."""
    width = pack_width(dtype)
    multiple = DEPTH_MULTIPLE[dtype]
    padded = -(-depth // multiple) * multiple
    return -(-columns // PANEL_COLUMNS), padded // width, PANEL_COLUMNS, width


def is_joined_weights(node: Node) -> bool:
    """Is it a concatenation of packed weights, which whoever loads them makes true in memory?"""
    return node.op == "concat" and all(
        arg.op == "input" and arg.attr("packing") is not None for arg in node.args
    )


def joined_behind(graph: Graph) -> dict[int, int]:
    """For inputs that must lie right behind another: the number of that input."""
    number = {node: i for i, node in enumerate(graph.inputs)}
    return {
        number[behind]: number[before]
        for node in graph.nodes()
        if is_joined_weights(node)
        for before, behind in pairwise(node.args)
    }


def stored_weight(weight: Node) -> Node:
    """The packed input behind the view that `pack_weights` wrote, or the weight itself."""
    node = weight
    while node.op in {"slice", "reshape", "permute"}:
        node = node.args[0]
    packed = node.op == "input" and node.attr("packing") == "stacked_panels"
    return node if packed else weight
