"""Reductions and running sums of blocks."""

from typing import Any

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.triton.layouts import plain
from banyan.compiler.targets.triton.moves import filled, gathered
from banyan.compiler.targets.triton.scope import Scope
from banyan.compiler.targets.triton.values import FLOATS, INTEGERS, Bounds, Value, integer_kind

_CALLS = {
    "sum": "tl.sum({}, {})",
    "max": "tl.max({}, {})",
    "min": "tl.min({}, {})",
    "prod": "tl.reduce({}, {}, _multiplied)",
    "argmax": "tl.argmax({}, {}, tie_break_left=True)",
}


def reduce(scope: Scope, node: Node) -> Value:
    """Remove axes of a tile; the padding never wins."""
    (source,) = node.args
    attrs: dict[str, Any] = dict(node.attrs)
    kind, axes = attrs["kind"], attrs["axes"]
    value = _computed(_filled_along(scope, scope.values[source], source, axes))
    if kind == "argmax":
        value = _plain_along(scope, value, source, axes)
    if value.is_block:
        mask = scope.mask(value.layout, axes)
        if mask is not None:
            rest = _neutral(kind, value)
            value = scope.keep(
                Value(f"tl.where({mask}, {value.text}, {rest})", value.kind, value.layout)
            )
    left = tuple(dim for i, dim in enumerate(value.layout) if i not in axes)
    removed = list(axes) if any(left) else list(range(len(value.layout)))
    text, result = value.text, value.kind
    bounds = _bounds(node, kind, scope.values[source])
    if kind == "argmax":
        result = "int32"
    elif node.dtype is DType.INT64:
        result = integer_kind(bounds)
        text = value.as_kind(result).text
    if not value.is_block:
        found = Value("0" if kind == "argmax" else text, result, left, bounds)
        return scope.keep(found)
    for axis in sorted(removed, reverse=True):
        text = _CALLS[kind if axis in axes else "max"].format(text, axis)
    found = scope.keep(Value(text, result, left, bounds))
    return _returned(scope, found, node)


def cumsum(scope: Scope, node: Node) -> Value:
    """A running sum."""
    (source,) = node.args
    axis: Any = node.attr("axis")
    value = _computed(_filled_along(scope, scope.values[source], source, (axis,)))
    value = _plain_along(scope, value, source, (axis,))
    bounds = _bounds(node, "sum", scope.values[source])
    kind = integer_kind(bounds) if node.dtype is DType.INT64 else value.kind
    if not value.layout[axis]:
        return value
    text = f"tl.cumsum({value.as_kind(kind).text}, {axis})"
    return scope.keep(Value(text, kind, value.layout, bounds))


def _filled_along(scope: Scope, value: Value, node: Node, axes: tuple[int, ...]) -> Value:
    """The value as a block with an axis for every dim of `axes`, unless they are all 1."""
    if all(not value.layout[axis] and not plain(node.shape[axis]) for axis in axes):
        return value
    return filled(scope, value, node.shape)


def _plain_along(scope: Scope, value: Value, node: Node, axes: tuple[int, ...]) -> Value:
    """The value with one axis for each of these dims: places in the order of elements."""
    if all(len(value.layout[axis]) <= 1 for axis in axes):
        return value
    layout = tuple(plain(node.shape[i]) if i in axes else own for i, own in enumerate(value.layout))
    return gathered(scope, value, (node.shape, node.shape), layout)


def _computed(value: Value) -> Value:
    """Floats as float32, and small integers and flags as int32."""
    small = value.kind in ("int1", "int8", "uint8")
    return value.as_kind("int32") if small else value.wide


def _returned(scope: Scope, value: Value, node: Node) -> Value:
    """Small integers in their own width again."""
    names = {DType.BOOL: "int1", DType.INT8: "int8", DType.UINT8: "uint8"}
    own = names.get(node.dtype)
    if own is None:
        return value
    return scope.keep(Value(value.as_kind(own).text, own, value.layout, INTEGERS[own]))


def _bounds(node: Node, kind: str, value: Value) -> Bounds:
    (source,) = node.args
    count = 1
    for size in source.shape:
        count *= max(1, upper_bound(size))
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
