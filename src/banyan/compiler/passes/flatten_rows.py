"""Work on rows [M, ...] instead of [batch, length, ...] behind linear layers.

A linear layer flattens its leading dims and restores them afterwards. Moving the restoring reshape
down past pointwise operations and reductions of the last axis lets them join the linear's kernel.
"""

from collections.abc import Sequence

from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Builder, Graph, Node
from banyan.compiler.ir.match import any_of, anything, operation, rewrite_graph, rule
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


@rule("pointwise of split rows", any_of(*POINTWISE))
def _pointwise(builder: Builder, root: Node) -> Node | None:
    split = next((arg for arg in root.args if _splits_rows(arg)), None)
    if split is None:
        return None
    args = [_flattened(builder, arg, split.args[0].shape) for arg in root.args]
    known = [arg for arg in args if arg is not None]
    if len(known) != len(args):
        return None
    return builder.add(root.op, known, **dict(root.attrs)).reshape(root.shape)


def _flattened(builder: Builder, node: Node, shape: Shape) -> Node | None:
    """The node with the flat shape, if that costs nothing."""
    if node.op == "reshape" and node.args[0].shape == shape:
        return node.args[0]
    if node.op == "expand":
        source = node.args[0]
        if not source.shape or _is_tail(source.shape, shape[1:]):
            return source.expand(shape)
        if len(shape) == 2 and source.shape[:-1] == node.shape[:-1]:
            return source.reshape((shape[0], source.shape[-1])).expand(shape)
    if len(shape) > 1 and node.shape[-1] == shape[-1]:
        return node.reshape(shape)
    return None


def _is_tail(part: Sequence[Dim], whole: Sequence[Dim]) -> bool:
    return len(part) <= len(whole) and tuple(whole[len(whole) - len(part) :]) == tuple(part)


_SPLIT = operation("reshape", anything("flat"), name="split")


@rule("reduction of split rows", operation("reduce", _SPLIT))
def _reduce(builder: Builder, root: Node, split: Node, flat: Node) -> Node | None:
    last = split.tensor.rank - 1
    if integers(root, "axes") != (last,) or not _splits_rows(split) or flat.tensor.rank < 2:
        return None
    attrs = {**dict(root.attrs), "axes": (flat.tensor.rank - 1,)}
    return flat.apply("reduce", **attrs).reshape(root.shape)


@rule("expansion of split rows", operation("expand", _SPLIT))
def _expand(builder: Builder, root: Node, split: Node, flat: Node) -> Node | None:
    """A column (M) or (M, 1) split as (leading..., 1) and repeated along the last axis."""
    if split.shape != (*root.shape[:-1], 1) or not _splits_rows(split) or flat.tensor.rank > 2:
        return None
    rows = flat.shape[0]
    return flat.reshape((rows, 1)).expand((rows, root.shape[-1])).reshape(root.shape)


@rule("reshape of reshape", operation("reshape", operation("reshape", anything("x"))))
def _join(builder: Builder, root: Node, x: Node) -> Node | None:
    return x.reshape(root.shape)


RULES = (_join, _pointwise, _reduce, _expand)
