"""Work on rows [M, ...] instead of [batch, length, ...] behind linear layers.

A linear layer flattens its leading dims and restores them afterwards. Moving the restoring reshape
down past pointwise operations and reductions of the last axis lets them join the linear's kernel.
"""

from collections.abc import Sequence

from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import Captures, Pattern, Rule, anything, operation, rewrite_graph
from banyan.compiler.ir.operations import POINTWISE
from banyan.compiler.ir.symbols import Dim, product

Shape = tuple[Dim, ...]


def flatten_rows(graph: Graph) -> Graph:
    """Move reshapes that only split leading dims towards the results."""
    return rewrite_graph(graph, RULES)


def _splits_rows(node: Node) -> bool:
    """Is it a reshape (M, rest...) -> (leading..., rest...) or (M) -> (leading..., 1)?"""
    if node.op != "reshape":
        return False
    flat, full = node.args[0].shape, node.shape
    if len(flat) == 0 or len(full) <= len(flat):
        return False
    rest = flat[1:] or (1,)
    leading = full[: -len(rest)]
    return len(leading) > 1 and full[-len(rest) :] == rest and product(leading) == flat[0]


def _pointwise(builder: Builder, found: Captures) -> Node | None:
    root = found["root"]
    split = next((arg for arg in root.args if _splits_rows(arg)), None)
    if split is None:
        return None
    shape = split.args[0].shape
    args = [_flattened(builder, arg, shape) for arg in root.args]
    known = [arg for arg in args if arg is not None]
    if len(known) != len(args):
        return None
    flat = builder.add(root.op, known, **dict(root.attrs))
    return builder.add("reshape", (flat,), shape=root.shape)


def _flattened(builder: Builder, node: Node, shape: Shape) -> Node | None:
    """The node with the flat shape, if that costs nothing."""
    if node.op == "reshape" and node.args[0].shape == shape:
        return node.args[0]
    if node.op == "expand":
        source = node.args[0]
        if not source.shape or _is_tail(source.shape, shape[1:]):
            return builder.add("expand", (source,), shape=shape)
        if len(shape) == 2 and source.shape[:-1] == node.shape[:-1]:
            column = builder.add("reshape", (source,), shape=(shape[0], *source.shape[-1:]))
            return builder.add("expand", (column,), shape=shape)
    if len(shape) > 1 and node.shape[-1] == shape[-1]:
        return builder.add("reshape", (node,), shape=shape)
    return None


def _is_tail(part: Sequence[Dim], whole: Sequence[Dim]) -> bool:
    return len(part) <= len(whole) and tuple(whole[len(whole) - len(part) :]) == tuple(part)


def _reduce(builder: Builder, found: Captures) -> Node | None:
    root, split = found["root"], found["split"]
    flat = split.args[0]
    last = split.tensor.rank - 1
    if integers(root, "axes") != (last,) or not _splits_rows(split) or flat.tensor.rank < 2:
        return None
    attrs = {**dict(root.attrs), "axes": (flat.tensor.rank - 1,)}
    return builder.add("reshape", (builder.add("reduce", (flat,), **attrs),), shape=root.shape)


def _expand(builder: Builder, found: Captures) -> Node | None:
    """A column (M) or (M, 1) split as (leading..., 1) and repeated along the last axis."""
    root, split = found["root"], found["split"]
    flat, leading = split.args[0], root.shape[:-1]
    if split.shape != (*leading, 1) or not _splits_rows(split):
        return None
    column = flat
    if flat.tensor.rank == 1:
        column = builder.add("reshape", (flat,), shape=(*flat.shape, 1))
    if column.tensor.rank != 2:
        return None
    grown = builder.add("expand", (column,), shape=(column.shape[0], root.shape[-1]))
    return builder.add("reshape", (grown,), shape=root.shape)


def _join(builder: Builder, found: Captures) -> Node | None:
    return builder.add("reshape", (found["x"],), shape=found["root"].shape)


_RESHAPED = operation("reshape", anything("x"), name="split")

RULES: tuple[Rule, ...] = (
    Rule(
        "reshape of reshape",
        operation("reshape", operation("reshape", anything("x")), name="root"),
        _join,
    ),
    Rule("pointwise of split rows", Pattern(POINTWISE, None, "root"), _pointwise),
    Rule("reduction of split rows", operation("reduce", _RESHAPED, name="root"), _reduce),
    Rule("expansion of split rows", operation("expand", _RESHAPED, name="root"), _expand),
)
