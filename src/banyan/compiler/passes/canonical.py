"""One way to write each thing that later passes look for."""

from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Captures, Pattern, Rule, anything, operation, rewrite_graph


def canonical(graph: Graph) -> Graph:
    """Products by a transposed matrix say `transpose_b`, sums of nothing are zeros, and running
    sums run over the last axis.
    """
    return rewrite_graph(graph, RULES)


def _absorb_transpose(builder: Builder, found: Captures) -> Node | None:
    root, permute = found["root"], found["permute"]
    rank = permute.tensor.rank
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if permute.attr("order") != swapped:
        return None
    attrs = dict(root.attrs)
    attrs["transpose_b"] = not attrs.get("transpose_b", False)
    return builder.add("dot", (found["a"], found["b"]), **attrs)


def _sums_nothing(node: Node) -> bool:
    return node.args[0].shape[-1] == 0


def _zeros(builder: Builder, found: Captures) -> Node | None:
    """Micro-kernels write what they sum, and of a depth of 0 they would write nothing."""
    root = found["root"]
    zero: int | float = 0.0 if root.dtype.is_floating else 0
    constant = builder.add("constant", value=zero, dtype=root.dtype)
    return builder.add("expand", (constant,), shape=root.shape)


def _cumsum_last(builder: Builder, found: Captures) -> Node | None:
    root, x = found["root"], found["x"]
    axis, last = root.attr("axis"), x.tensor.rank - 1
    if not isinstance(axis, int) or axis == last:
        return None
    order = list(range(last + 1))
    order[axis], order[last] = last, axis
    moved = builder.add("permute", (x,), order=tuple(order))
    summed = builder.add("cumsum", (moved,), axis=last)
    return builder.add("permute", (summed,), order=tuple(order))


RULES: tuple[Rule, ...] = (
    Rule(
        "dot over nothing", Pattern(frozenset({"dot"}), None, "root", where=_sums_nothing), _zeros
    ),
    Rule(
        "dot of a transpose",
        operation(
            "dot", anything("a"), operation("permute", anything("b"), name="permute"), name="root"
        ),
        _absorb_transpose,
    ),
    Rule(
        "cumsum over the last axis", operation("cumsum", anything("x"), name="root"), _cumsum_last
    ),
)
