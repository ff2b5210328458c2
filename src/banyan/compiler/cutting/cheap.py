"""What is computed wherever it is needed, because sending it would cost more. Pure."""

from banyan.compiler.ir.graph import Graph, Node
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.types import TupleType

LEAVES = frozenset({"constant", "data", "iota", "size"})
VIEWS = frozenset({"reshape", "expand", "permute", "slice", "cast"})
"""One argument; the receiver can make them itself from it."""

_SHAPES = VIEWS | {"concat", "pad"}


def cheap_nodes(graph: Graph) -> frozenset[Node]:
    """Nodes that follow from small arguments, weights and numbers alone.

    Arguments, weights and states that a step only reads are among them, since whoever needs one
    gets it; so are tables of the rope, masks and grown vectors. Not those made from arguments with
    fractions (rows of images), which are as large as what flows between layers.
    """
    written = {output.updates for output in graph.outputs}
    found: set[Node] = set()
    for node in graph.nodes():
        if node.op == "input":
            is_cheap = node.attr("role") != "state" or node.attr("name") not in written
        else:
            is_simple = node.op in POINTWISE or node.op in _SHAPES or node.op in LEAVES
            is_simple = is_simple or _looks_up_numbers(node)
            is_cheap = is_simple and all(arg in found and not _is_wide(arg) for arg in node.args)
        if is_cheap:
            found.add(node)
    return frozenset(found)


def most_bytes(node: Node) -> int:
    """Bytes of a value at the largest sizes."""
    assert not isinstance(node.type, TupleType), "parts of a tuple are read where it is made"
    return node.tensor.maximum_bytes


def _looks_up_numbers(node: Node) -> bool:
    """One number for each of an argument's: the slot of each token's adapter."""
    return node.op == "gather" and node.args[0].tensor.rank == 1


def _is_wide(node: Node) -> bool:
    is_argument = node.op == "input" and node.attr("role") == "argument"
    return is_argument and node.dtype.is_floating
