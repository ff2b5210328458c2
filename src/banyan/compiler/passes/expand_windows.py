"""What the places of a convolution see, written with slices where no program lays it out."""

from typing import Any

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import any_of, rewrite_graph, rule
from banyan.compiler.ir.neighbours import padded, windows


def expand_windows(graph: Graph) -> Graph:
    """Write out every `windows` node."""
    return rewrite_graph(graph, (_expand,))


@rule("write out windows", any_of("windows"))
def _expand(_: Builder, root: Node) -> Node:
    attrs: dict[str, Any] = dict(root.attrs)
    whole = padded(root.args[0], attrs["border"])
    names = ("kernel", "stride", "dilation", "places")
    return windows(whole, *(attrs[name] for name in names)).reshape(root.shape)
