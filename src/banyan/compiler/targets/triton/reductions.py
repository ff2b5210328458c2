"""Reductions and running sums of blocks."""

from dataclasses import replace
from math import prod

from banyan.compiler.ir.attributes import integer, integers
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.triton.layouts import plain
from banyan.compiler.targets.triton.moves import filled, relaid
from banyan.compiler.targets.triton.scope import Scope
from banyan.compiler.targets.triton.values import (
    FLOATS,
    INTEGERS,
    STORED,
    Bounds,
    Value,
    integer_kind,
)

_CALLS = {
    "sum": "tl.sum({}, {})",
    "max": "tl.max({}, {})",
    "min": "tl.min({}, {})",
    "prod": "tl.reduce({}, {}, _multiplied)",
    "argmax": "tl.argmax({}, {}, tie_break_left=True)",
}
_SMALL = frozenset({"int1", "int8", "uint8"})


def reduce(scope: Scope, node: Node) -> Value:
    """Remove axes of a tile; the padding never wins."""
    (source,), axes, kind = node.args, integers(node, "axes"), str(node.attr("kind"))
    value = _filled_along(scope, source, axes, in_order=kind == "argmax")
    mask = scope.mask(value.layout, axes) if value.is_block else None
    if mask is not None:
        text = f"tl.where({mask}, {value.text}, {_neutral(kind, value)})"
        value = scope.keep(Value(text, value.kind, value.layout))
    left = tuple(dim for i, dim in enumerate(value.layout) if i not in axes)
    bounds = _bounds(node, kind, scope.values[source])
    if kind == "argmax":
        value = replace(value, text=value.text if value.is_block else "0")
    elif node.dtype is DType.INT64:
        value = value.as_kind(integer_kind(bounds))
    result = "int32" if kind == "argmax" else value.kind
    if not value.is_block:
        return scope.keep(Value(value.text, result, left, bounds))
    text = value.text
    for axis in reversed(range(len(value.layout))):
        if axis in axes or not any(left):
            text = _CALLS[kind if axis in axes else "max"].format(text, axis)
    found = scope.keep(Value(text, result, left, bounds))
    own = STORED[node.dtype]
    if own not in _SMALL:
        return found
    return scope.keep(Value(found.as_kind(own).text, own, left, INTEGERS[own]))


def cumsum(scope: Scope, node: Node) -> Value:
    """A running sum."""
    (source,), axis = node.args, integer(node, "axis")
    value = _filled_along(scope, source, (axis,), in_order=True)
    bounds = _bounds(node, "sum", scope.values[source])
    kind = integer_kind(bounds) if node.dtype is DType.INT64 else value.kind
    if not value.layout[axis]:
        return value
    text = f"tl.cumsum({value.as_kind(kind).text}, {axis})"
    return scope.keep(Value(text, kind, value.layout, bounds))


def _filled_along(scope: Scope, node: Node, axes: tuple[int, ...], *, in_order: bool) -> Value:
    """The value as it is computed, with an axis for every dim of `axes`, unless they are all 1.

    With `in_order` they have one axis each, so that places are in the order of elements.
    """
    value = scope.values[node]
    if any(value.layout[axis] or plain(node.shape[axis]) for axis in axes):
        value = filled(scope, value, node.shape)
    # Small integers and flags are computed as int32, floats as float32.
    value = value.as_kind("int32") if value.kind in _SMALL else value.wide
    if not in_order or all(len(value.layout[axis]) <= 1 for axis in axes):
        return value
    layout = tuple(plain(node.shape[i]) if i in axes else own for i, own in enumerate(value.layout))
    return relaid(scope, value, node.shape, layout)


def _bounds(node: Node, kind: str, value: Value) -> Bounds:
    (source,) = node.args
    count = prod(max(1, upper_bound(size)) for size in source.shape)
    low, high = value.bounds
    if kind == "argmax":
        return 0, max(0, count - 1)
    if kind in ("max", "min"):
        return low, high
    if kind == "sum" and node.dtype is DType.INT64:
        return min(0, low * count), max(0, high * count)
    return INTEGERS["int64"] if node.dtype is DType.INT64 else INTEGERS["int32"]


def _neutral(kind: str, value: Value) -> str:
    if kind in ("sum", "prod"):
        return "0" if kind == "sum" else "1"
    lowest = kind in ("max", "argmax")
    if value.kind in FLOATS:
        return f'float("{"-" if lowest else ""}inf")'
    return str(INTEGERS[value.kind][0 if lowest else 1])
