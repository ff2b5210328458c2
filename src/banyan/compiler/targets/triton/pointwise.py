"""The text of pointwise operations on values of one layout.

Floats of 16 bits are computed as float32; they are rounded where they are stored, multiplied as
matrices, and where the graph casts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.text import ARITHMETIC, COMPARISONS
from banyan.compiler.targets.triton.values import (
    FLOATS,
    INT64,
    INTEGERS,
    STORED,
    Bounds,
    Value,
    integer_kind,
)
from banyan.foundation.errors import CompilationFailed

_CALLS = {
    "exp": "tl.exp({})",
    "log": "tl.log({})",
    "sqrt": "tl.sqrt({})",
    "rsqrt": "tl.rsqrt({})",
    "sin": "tl.sin({})",
    "cos": "tl.cos({})",
    "tanh": "tanh({})",
    "floor": "tl.floor({})",
    "sigmoid": "1.0 / (1.0 + tl.exp(-{}))",
}

_CORNERS: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "min": min,
    "max": max,
}


def pointwise(node: Node, values: Sequence[Value], *, has_erf: bool) -> Value:
    """The value of `node` for arguments that lie alike; its layout is set by the caller.

    Raises:
        CompilationFailed: an operation that has no text.
    """
    if all(v.number is not None for v in values):
        # Numbers have no type of their own in Triton; the first gets one.
        first = values[0]
        typed = f"tl.full([], {first.text}, tl.{first.kind})"
        values = [replace(first, text=typed, number=None), *values[1:]]
    if node.op == "cast":
        return cast(values[0], node.dtype)
    if node.op == "where":
        return _where(node, values)
    if len(values) == 1:
        return _unary(node, values[0].wide, has_erf=has_erf)
    left, right = (value.wide for value in values)
    if node.op in COMPARISONS:
        return Value(f"{left.text} {COMPARISONS[node.op]} {right.text}", "int1", bounds=(0, 1))
    return _float(node, left, right) if left.kind in FLOATS else _integer(node, left, right)


def cast(value: Value, dtype: DType) -> Value:
    """The value with another element type."""
    kind = STORED[dtype]
    if dtype is DType.FLOAT8_E4M3:
        # Between operations it is a float32 that has been rounded, as `load` gives it.
        rounded = value.wide.as_kind("float32")
        return replace(rounded, text=f"from_float8(to_float8({rounded.text}))", number=None)
    if dtype is DType.BOOL:
        return replace(value.as_kind("int1"), bounds=(0, 1))
    if dtype.is_floating:
        return replace(value.wide.as_kind("float32").as_kind(kind), is_clear=value.is_clear)
    if value.kind in FLOATS:
        kept = value.wide.as_kind("int64" if dtype is DType.INT64 else "int32")
        return replace(kept.as_kind(kind), bounds=INTEGERS[kind])
    low, high = INTEGERS[kind]
    inside = low <= value.bounds[0] and value.bounds[1] <= high
    bounds = value.bounds if inside else INTEGERS[kind]
    if dtype is DType.INT64:
        kind = integer_kind(bounds)
    return replace(value.as_kind(kind), bounds=bounds)


def _where(node: Node, values: Sequence[Value]) -> Value:
    flags, left, right = values[0], values[1].wide, values[2].wide
    bounds = (min(left.bounds[0], right.bounds[0]), max(left.bounds[1], right.bounds[1]))
    kind = left.kind
    if node.dtype is DType.INT64:
        kind = integer_kind(bounds)
    left, right = left.as_kind(kind), right.as_kind(kind)
    return Value(f"tl.where({flags.text}, {left.text}, {right.text})", kind, bounds=bounds)


def _unary(node: Node, value: Value, *, has_erf: bool) -> Value:
    op, kind = node.op, value.kind
    if op == "not":
        return Value(f"({value.text} == 0)", "int1", bounds=(0, 1)).as_kind(kind)
    if kind not in FLOATS and op == "floor":
        return value
    if op in ("neg", "abs"):
        low, high = value.bounds
        largest = max(abs(low), abs(high))
        bounds = (-high, -low) if op == "neg" else (0, largest)
        if node.dtype is DType.INT64:
            value = value.as_kind(integer_kind((-largest, largest)))
        text = f"-{value.text}" if op == "neg" else f"tl.abs({value.text})"
        return Value(text, value.kind, bounds=_fitting(value.kind, bounds))
    if op == "erf":
        return Value(f"{'tl.' if has_erf else ''}erf({value.text})", kind)
    return Value(_CALLS[op].format(value.text), kind)


def _fitting(kind: str, bounds: Bounds) -> Bounds:
    """The bounds of a result, or all of its type where it may wrap around."""
    low, high = INTEGERS.get(kind, INT64)
    return bounds if low <= bounds[0] and bounds[1] <= high else (low, high)


def _float(node: Node, left: Value, right: Value) -> Value:
    a, b = left.text, right.text
    if node.op in ARITHMETIC:
        return Value(f"{a} {ARITHMETIC[node.op]} {b}", "float32")
    if node.op in ("min", "max"):
        every = "propagate_nan=tl.PropagateNan.ALL"
        return Value(f"tl.{node.op}imum({a}, {b}, {every})", "float32")
    if node.op == "floordiv":
        return Value(f"tl.floor({a} / {b})", "float32")
    if node.op == "mod":
        return Value(f"{a} - tl.floor({a} / {b}) * {b}", "float32")
    return Value(_power(a, b, right.number), "float32")


def _power(base: str, exponent: str, known: float | None) -> str:
    simple = {2: f"{base} * {base}", 3: f"{base} * {base} * {base}", 0.5: f"tl.sqrt({base})"}
    if known is not None and known in simple:
        return simple[known]
    return f"power({base}, {exponent})"


def _integer(node: Node, left: Value, right: Value) -> Value:
    op, kind, bounds = node.op, STORED[node.dtype], INTEGERS[STORED[node.dtype]]
    corner = _CORNERS.get(op)
    if corner is not None:
        found = [corner(a, b) for a in left.bounds for b in right.bounds]
        bounds = (min(found), max(found))
    elif op == "mod" and right.bounds[0] > 0:
        bounds = (0, right.bounds[1] - 1)
    elif op == "floordiv" and right.bounds[0] > 0:
        bounds = (min(left.bounds[0], 0), max(left.bounds[1], 0))
    if node.dtype is DType.INT64:
        every = (*bounds, *left.bounds, *right.bounds)
        kind = integer_kind((min(every), max(every)))
    left, right = left.as_kind(kind), right.as_kind(kind)
    return Value(_integer_text(node, left, right), kind, bounds=_fitting(kind, bounds))


def _integer_text(node: Node, left: Value, right: Value) -> str:
    op, a, b = node.op, left.text, right.text
    if op in ARITHMETIC and op != "div":
        return f"{a} {ARITHMETIC[op]} {b}"
    if op in ("min", "max"):
        if left.kind == "int1":
            return f"{a} {'&' if op == 'min' else '|'} {b}"
        return f"tl.{op}imum({a}, {b})"
    if op in ("floordiv", "mod"):
        if left.bounds[0] >= 0 and right.bounds[0] > 0:
            return f"{a} {'//' if op == 'floordiv' else '%'} {b}"
        return f"floor_{'divide' if op == 'floordiv' else 'modulo'}({a}, {b})"
    if op == "pow" and right.number in (2, 3):
        return " * ".join([a] * int(right.number))
    raise CompilationFailed(f"the Triton target cannot compute {op!r} of {node.dtype.value}")
