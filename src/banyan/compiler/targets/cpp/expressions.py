"""Text of element types, literals, sizes and pointwise operations, the same in every dialect.

Everything here is text in, text out. Inside a kernel the 16-bit floats are computed as `float`;
they are rounded where they are stored and where the graph casts.
"""

import math
from collections.abc import Sequence

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.text import ARITHMETIC, COMPARISONS, Name, size_text

STORED = {
    DType.FLOAT32: "float",
    DType.BFLOAT16: "bf16_t",
    DType.FLOAT16: "f16_t",
    DType.FLOAT8_E4M3: "f8e4m3_t",
    DType.INT64: "int64_t",
    DType.INT32: "int32_t",
    DType.INT8: "int8_t",
    DType.UINT8: "uint8_t",
    DType.BOOL: "bool",
}
"""The type of one element in memory, as each dialect's header defines it."""

NARROW_FLOATS = frozenset({DType.BFLOAT16, DType.FLOAT16, DType.FLOAT8_E4M3})
"""Floats that are stored in fewer bits than they are computed in."""

_SMALL_INTEGERS = frozenset({DType.INT32, DType.INT8, DType.UINT8})

COSTS = {
    **dict.fromkeys(("exp", "log", "tanh", "erf", "sin", "cos", "sigmoid", "pow"), 12),
    **dict.fromkeys(("div", "floordiv", "mod", "sqrt", "rsqrt"), 5),
}
"""About how many simple instructions an operation takes; 1 for those not listed."""


def computed_type(dtype: DType) -> str:
    """The type in which values of `dtype` are computed."""
    return "float" if dtype.is_floating else STORED[dtype]


def from_memory(text: str, dtype: DType) -> str:
    """The computed value of the stored element `text`."""
    if dtype in NARROW_FLOATS:
        return f"from_{dtype.value}({text})"
    return f"{text} != 0" if dtype is DType.BOOL else text


def to_memory(text: str, dtype: DType) -> str:
    """The stored form of the computed value `text`."""
    if dtype in NARROW_FLOATS:
        return f"to_{dtype.value}({text})"
    return text


def literal(value: bool | int | float, dtype: DType) -> str:
    """A constant of the computed type."""
    if dtype is DType.BOOL:
        return "true" if value else "false"
    if not dtype.is_floating:
        return f"{STORED[dtype]}({int(value)})"
    number = float(dtype.numpy.type(value))
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return f"{'-' if number < 0 else ''}INFINITY"
    text = repr(number)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def dim_text(dim: Dim, name: Name) -> str:
    """The expression of a size; `name` gives the variable of each symbol."""
    floor = "floor_divide(index_t({}), index_t({}))"
    return size_text(dim, name, "({} / {})", floor)


def pointwise_text(node: Node, values: Sequence[str]) -> str:
    """The expression of a pointwise operation on computed values."""
    if node.op == "cast":
        return _cast(values[0], node.args[0].dtype, node.dtype)
    if node.op == "where":
        return f"{values[0]} ? {values[1]} : {values[2]}"
    if len(values) == 1:
        return _unary(node.op, values[0], node.dtype)
    if node.op in COMPARISONS:
        return f"{values[0]} {COMPARISONS[node.op]} {values[1]}"
    return _binary(node, values[0], values[1])


def _unary(op: str, value: str, dtype: DType) -> str:
    if op == "neg":
        return _narrow(f"-{value}", dtype)
    if op == "not":
        return f"!{value}" if dtype is DType.BOOL else f"~{value}"
    if op == "abs":
        if dtype.is_floating:
            return f"fabsf({value})"
        return _narrow(f"{value} < 0 ? -{value} : {value}", dtype)
    if op == "floor" and not dtype.is_floating:
        return value
    return f"banyan_{op}({value})"


def _binary(node: Node, left: str, right: str) -> str:
    op, dtype = node.op, node.dtype
    if op in ARITHMETIC:
        return _narrow(f"{left} {ARITHMETIC[op]} {right}", dtype)
    if op in ("min", "max"):
        return f"{op}imum({left}, {right})"
    if op == "floordiv":
        return _narrow(f"floor_divide({left}, {right})", dtype)
    if op == "mod":
        return _narrow(f"floor_modulo({left}, {right})", dtype)
    return _power(node, left, right)


def _power(node: Node, left: str, right: str) -> str:
    """Small constant powers are products: powf does not vectorise."""
    exponent = constant_value(node.args[1])
    if exponent == 2:
        return f"{left} * {left}"
    if exponent == 3:
        return f"{left} * {left} * {left}"
    if exponent == 0.5:
        return f"banyan_sqrt({left})"
    if exponent == -0.5:
        return f"banyan_rsqrt({left})"
    if not node.dtype.is_floating:
        return f"{STORED[node.dtype]}(integer_power({left}, {right}))"
    return f"powf({left}, {right})"


def constant_value(node: Node) -> float | None:
    """The number a node always has, seen through `expand`, `reshape` and `cast`."""
    while node.op in ("expand", "reshape", "cast"):
        node = node.args[0]
    if node.op != "constant":
        return None
    value = node.attr("value")
    return float(value) if isinstance(value, int | float) else None


def _narrow(text: str, dtype: DType) -> str:
    """Small integers wrap around in their own width, as C++ promotes them to int."""
    return f"{STORED[dtype]}({text})" if dtype in _SMALL_INTEGERS else text


def _cast(value: str, source: DType, target: DType) -> str:
    if target is DType.BOOL:
        return value if source is DType.BOOL else f"{value} != 0"
    if target is DType.FLOAT32:
        return value if source.is_floating else f"float({value})"
    if target.is_floating:
        if source is target:
            return value
        wide = value if source.is_floating else f"float({value})"
        return f"from_{target.value}(to_{target.value}({wide}))"
    return value if source is target else f"{STORED[target]}({value})"
