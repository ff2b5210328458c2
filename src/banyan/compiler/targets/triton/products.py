"""Matrix products of blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from banyan.compiler.ir.graph import Node, Region
from banyan.compiler.ir.groups import users_of
from banyan.compiler.ir.symbols import matching_groups
from banyan.compiler.targets.triton.accesses import Groups, load
from banyan.compiler.targets.triton.layouts import Axis, places
from banyan.compiler.targets.triton.moves import filled, gathered, permute, relaid, reshape
from banyan.compiler.targets.triton.scope import Scope
from banyan.compiler.targets.triton.values import STORED, Value
from banyan.foundation.errors import CompilationFailed

LEAST = 16
"""Places that every dim of an operand must have."""


def dot(scope: Scope, node: Node) -> Value:
    """A product; sums are float32, the precision of float32 factors is always stated."""
    attrs: dict[str, Any] = dict(node.attrs)
    a, b = node.args
    if not a.dtype.is_floating or a.tensor.rank != 2:
        raise CompilationFailed(f"the Triton target cannot multiply {a.type} by {b.type}")
    depth = a.shape[1]
    left = _operand(scope, scope.values[a], a.shape)
    packed = attrs.get("packed")
    right = _unpacked(scope, b) if packed else scope.values[b]
    shape = (depth, b.shape[1]) if packed else b.shape
    right = _operand(scope, right, shape)
    along = 1 if attrs.get("transpose_b") else 0
    layout = tuple(left.layout[1] if i == along else d for i, d in enumerate(right.layout))
    right = relaid(scope, right, shape, layout)
    left, right = _cleared(scope, left, 1), _cleared(scope, right, along)
    kind = "float32" if scope.chip.is_interpreted else STORED[a.dtype]
    texts = [v.text if v.kind == kind else v.wide.as_kind(kind).text for v in (left, right)]
    second = f"tl.trans({texts[1]})" if along else texts[1]
    precision = f'input_precision="{scope.chip.precision}"'
    layout = (left.layout[0], right.layout[1 - along])
    return scope.keep(Value(f"tl.dot({texts[0]}, {second}, {precision})", "float32", layout))


def _operand(scope: Scope, value: Value, shape: tuple[Any, ...]) -> Value:
    """The value as a block whose dims are large enough for matrix instructions."""
    value = filled(scope, value, shape)
    layout = tuple(
        axes if places(axes) >= LEAST else (Axis(size, LEAST),)
        for axes, size in zip(value.layout, shape, strict=True)
    )
    if layout == value.layout:
        return value
    if not value.is_block:
        return scope.grown(value, layout)
    return gathered(scope, value, (shape, shape), layout)


def _unpacked(scope: Scope, node: Node) -> Value:
    """Factors [K/p, N, p] as [K, N]; read in that order when they come from memory."""
    source, groups = _seen_through(node)
    if source.op == "load":
        return load(scope, source, ((*groups[0], *groups[2]), groups[1]))
    lines, columns, pair = node.shape
    moved = permute(scope, scope.values[node], (0, 2, 1))
    return reshape(scope, moved, (lines, pair, columns), (lines * pair, columns))


def _seen_through(node: Node) -> tuple[Node, Groups]:
    """What a tile is a permuted and merged view of, and the dims of that in each of its dims."""
    if node.op == "permute":
        source, groups = _seen_through(node.args[0])
        order: Any = node.attr("order")
        return source, tuple(groups[axis] for axis in order)
    if node.op == "reshape":
        pairs = matching_groups(node.shape, node.args[0].shape)
        if pairs is not None and all(len(ours) == 1 for ours, _ in pairs):
            source, groups = _seen_through(node.args[0])
            return source, tuple(tuple(d for i in theirs for d in groups[i]) for _, theirs in pairs)
    return node, tuple((i,) for i in range(node.tensor.rank))


def unread(order: Mapping[Region, Sequence[Node]]) -> frozenset[Node]:
    """Nodes between memory and a packed product that it reads past."""
    nodes = [node for region in order.values() for node in region]
    results = {result for region in order for result in region.results}
    users = users_of(nodes)
    found: set[Node] = set()
    for node in reversed(nodes):
        packed = node.op == "dot" and dict(node.attrs).get("packed")
        link = node.args[1] if packed and _seen_through(node.args[1])[0].op == "load" else None
        while link is not None and link not in results and {*users[link]} <= {node, *found}:
            found.add(link)
            link = link.args[0] if link.op != "load" else None
    return frozenset(found)


def _cleared(scope: Scope, value: Value, dim: int) -> Value:
    """Zeros in the padding along the contracted dim."""
    mask = None if value.is_clear else scope.mask(value.layout, (dim,))
    if mask is None:
        return value
    text = f"tl.where({mask}, {value.text}, 0.0)"
    return scope.keep(replace(value, text=text, is_clear=True))
