"""Put graphs together: the graph of one layer serves every layer of its kind.

Pure functions over graphs. Called by `banyan.models.step_capture`, which would otherwise trace
dozens of equal layers one by one.
"""

from collections.abc import Callable, Mapping

from banyan.compiler.ir.graph import Builder, Graph, Node, rebuild
from banyan.foundation.errors import GraphError


def splice(builder: Builder, graph: Graph, bound: Callable[[Node], Node]) -> Mapping[str, Node]:
    """Copy `graph` into `builder` with each input replaced by `bound(input)`.

    Gives the nodes of the outputs by name.

    Raises:
        GraphError: a replacement has another type than the input it stands for.
    """
    copies: dict[Node, Node] = {}
    for node in graph.nodes():
        if node.op == "input":
            copies[node] = _checked(node, bound(node))
        else:
            copies[node] = rebuild(builder, node, tuple(copies[arg] for arg in node.args))
    return {output.name: copies[output.node] for output in graph.outputs}


def _checked(node: Node, replacement: Node) -> Node:
    if replacement.type != node.type:
        raise GraphError(
            f"input {node.attr('name')} is {node.type}, what should take its place is "
            f"{replacement.type}"
        )
    return replacement
