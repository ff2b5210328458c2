"""One way to write each thing that later passes look for."""

from banyan.compiler.ir.attributes import integer
from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import any_of, anything, operation, rewrite_graph, rule


def canonical(graph: Graph) -> Graph:
    """Products by a transposed matrix say `transpose_b`, sums of nothing are zeros, and running
    sums run over the last axis.
    """
    return rewrite_graph(graph, RULES)


def _sums_nothing(node: Node) -> bool:
    return node.args[0].shape[-1] == 0


@rule("dot over nothing", any_of("dot", where=_sums_nothing))
def _zeros(builder: Builder, root: Node) -> Node:
    """Micro-kernels write what they sum, and of a depth of 0 they would write nothing."""
    return builder.number(0, root.dtype, root.shape)


_TRANSPOSED = operation("permute", anything("b"), name="permute")


@rule("dot of a transpose", operation("dot", anything("a"), _TRANSPOSED))
def _absorb_transpose(builder: Builder, root: Node, a: Node, b: Node, permute: Node) -> Node | None:
    rank = b.tensor.rank
    if permute.attr("order") != (*range(rank - 2), rank - 1, rank - 2):
        return None
    attrs = dict(root.attrs)
    attrs["transpose_b"] = not attrs.get("transpose_b", False)
    return builder.add("dot", (a, b), **attrs)


@rule("cumsum over the last axis", operation("cumsum", anything("x")))
def _cumsum_last(builder: Builder, root: Node, x: Node) -> Node | None:
    axis, last = integer(root, "axis"), x.tensor.rank - 1
    if axis == last:
        return None
    order = list(range(last + 1))
    order[axis], order[last] = last, axis
    return x.permute(order).apply("cumsum", axis=last).permute(order)


RULES = (_zeros, _absorb_transpose, _cumsum_last)
