"""ATen operations that work element by element."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from banyan.compiler.capture.emitter import Emitter, Number, Rule, from_torch_dtype, promoted
from banyan.compiler.ir.graph import Node, Operand
from banyan.compiler.ir.types import DType

F32 = DType.FLOAT32


def _float_unary(op: str) -> Rule:
    return lambda emit, x, *_: x.cast(emit.dtype).apply(op)


def _plain_unary(op: str) -> Rule:
    return lambda _emit, x, *_: x.apply(op)


def _binary(op: str) -> Rule:
    return lambda emit, a, b, *_: emit.pointwise(op, a, b, dtype=emit.dtype)


def _compare(op: str) -> Rule:
    return lambda emit, a, b: emit.pointwise(op, a, b)


def _in_float32(formula: Callable[[Node], Node]) -> Rule:
    """A formula of one number, computed in float32 and rounded once."""
    return lambda emit, x, *_: emit.in_float32(x, formula)


def _of_fractions(formula: Callable[[Node], Node]) -> Rule:
    """A formula that leaves whole numbers as they are."""
    return lambda _emit, x, *_: formula(x) if x.dtype.is_floating else x


def _multiplicative(op: str) -> Rule:
    """A factor of 16-bit fractions keeps the digits it was written with, as in PyTorch."""

    def rule(emit: Emitter, a: Operand, b: Operand, *_: Any) -> Node:
        if not any(_loses_digits(x, emit.dtype) for x in (a, b)):
            return emit.pointwise(op, a, b, dtype=emit.dtype)
        return emit.pointwise(op, a, b, dtype=F32).cast(emit.dtype)

    return rule


def _loses_digits(x: Operand, dtype: DType) -> bool:
    if not isinstance(x, int | float) or dtype not in (DType.BFLOAT16, DType.FLOAT16):
        return False
    with np.errstate(over="ignore"):
        return float(np.asarray(float(x)).astype(dtype.numpy)) != float(x)


def _both_sides(emit: Emitter, a: Operand, b: Operand, dtype: DType | None = None) -> list[Node]:
    return [emit.operand(x, dtype or emit.dtype, emit.shape) for x in (a, b)]


def _scaled(op: str) -> Rule:
    def rule(emit: Emitter, a: Operand, b: Operand, alpha: Number = 1) -> Node:
        left, right = _both_sides(emit, a, b)
        return left.apply(op, right if alpha == 1 else right * alpha)

    return rule


def _reverse_subtract(emit: Emitter, a: Node, b: Operand, alpha: Number = 1) -> Node:
    return emit.pointwise("sub", b, a if alpha == 1 else a * alpha, dtype=emit.dtype)


def truth(x: Node) -> Node:
    """Where a value is not 0."""
    return x if x.dtype is DType.BOOL else x.differs(0)


def _logical(op: str) -> Rule:
    return lambda emit, a, b: emit.pointwise(op, truth(a), truth(b), dtype=DType.BOOL)


def _bitwise_not(_: Emitter, x: Node) -> Node:
    return ~x if x.dtype is DType.BOOL else -x - 1


def _truncate(x: Node) -> Node:
    return (x < 0).choose(_ceil(x), x.apply("floor"))


def _ceil(x: Node) -> Node:
    return -(-x).apply("floor")


def _divide_mode(emit: Emitter, a: Operand, b: Operand, rounding_mode: str | None) -> Node:
    if rounding_mode == "floor":
        return _floor_divide(emit, a, b)
    if rounding_mode is None:
        return _multiplicative("div")(emit, a, b)  # type: ignore[return-value]
    if emit.dtype.is_floating:
        return _truncate(emit.pointwise("div", a, b, dtype=F32)).cast(emit.dtype)
    # Whole numbers: one more than the floor where a remainder was cut off below zero.
    left, right = _both_sides(emit, a, b)
    cut = (left % right).differs(0) & ((left < 0) ^ (right < 0))
    return left // right + cut.cast(emit.dtype)


def _floor_divide(emit: Emitter, a: Operand, b: Operand) -> Node:
    if not promoted((a, b)).is_floating:
        return emit.pointwise("floordiv", a, b, dtype=emit.dtype)
    left, right = _both_sides(emit, a, b, F32)
    whole = _float_floor_quotient(left, right)
    return right.equals(0.0).choose(left / right, whole).cast(emit.dtype)


def _float_floor_quotient(a: Node, b: Node) -> Node:
    """The floor of the exact a / b, as Python has it: 1 // 0.1 is 9 though 1 / 0.1 rounds to 10."""
    rest = _signed_remainder(a, b)
    below = rest.differs(0.0) & ((b < 0.0) ^ (rest < 0.0))
    quotient = (a - rest) / b - below.cast(F32)
    floor = quotient.apply("floor")
    return floor + (quotient - floor > 0.5).cast(F32)


def _truncated_remainder(emit: Emitter, a: Operand, b: Operand) -> Node:
    """The remainder with the sign of `a`, as in C."""
    left, right = _both_sides(emit, a, b)
    if emit.dtype.is_floating:
        return _signed_remainder(left, right)
    # The lowest whole number has no size of its own type, so sizes are of no use here.
    rest = left % right
    other = ((left < 0) ^ (right < 0)) & rest.differs(0)
    return other.choose(rest - right, rest)


def _signed_remainder(left: Node, right: Node) -> Node:
    size = left.apply("abs") % right.apply("abs")
    return (left < 0).choose(-size, size)


def _power(emit: Emitter, x: Operand, exponent: Operand) -> Node:
    if not isinstance(x, Node) or not isinstance(exponent, int | float):
        return emit.pointwise("pow", x, exponent, dtype=emit.dtype)
    base = x.cast(emit.dtype)
    if exponent == 1:
        return base
    if exponent in (2, 3):
        return base * base if exponent == 2 else base * base * base
    special = {0.5: "sqrt", -0.5: "rsqrt"}.get(float(exponent))
    return base.apply(special) if special else base.binary("pow", exponent)


def _gelu(emit: Emitter, x: Node, approximate: str = "none") -> Node:
    def exact(f: Node) -> Node:
        return f * 0.5 * ((f * math.sqrt(0.5)).apply("erf") + 1.0)

    def by_tanh(f: Node) -> Node:
        inner = (f + f * f * f * 0.044715) * math.sqrt(2 / math.pi)
        return f * 0.5 * (inner.apply("tanh") + 1.0)

    return emit.in_float32(x, by_tanh if approximate == "tanh" else exact)


def _clamp(emit: Emitter, x: Node, low: Number | None = None, high: Number | None = None) -> Node:
    result = x.cast(emit.dtype)
    if low is not None:
        result = result.binary("max", low)
    return result if high is None else result.binary("min", high)


def _leaky_relu(emit: Emitter, x: Node, slope: Number = 0.01) -> Node:
    return emit.in_float32(x, lambda f: (f > 0).choose(f, f * slope))


def _elu(
    emit: Emitter, x: Node, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1
) -> Node:
    def formula(f: Node) -> Node:
        return (f > 0.0).choose(f, _grown_less_one(f * input_scale) * alpha) * scale

    return emit.in_float32(x, formula)


def _log1p(f: Node) -> Node:
    """What rounding 1 + f lost is added back to first order."""
    moved = f + 1.0
    lost = f - (moved - 1.0)
    plain = moved.apply("log")
    return (lost.apply("abs") > 0.0).choose(plain + lost / moved, plain)


def _grown_less_one(f: Node) -> Node:
    """e^f - 1 = tanh(f / 2) (e^f + 1), which keeps its digits near zero."""
    return (f * 0.5).apply("tanh") * (f.apply("exp") + 1.0)


def _log_base(base: float) -> Rule:
    return _in_float32(lambda f: f.apply("log") * (1.0 / math.log(base)))


def _round(x: Node) -> Node:
    """To the nearest whole number, halves to the even one."""
    below = x.apply("floor")
    part = x - below
    up = (part.equals(0.5) & (below % 2).differs(0)) | (part > 0.5)
    return up.choose(below + 1, below)


def _sign(_: Emitter, x: Node) -> Node:
    if x.dtype is DType.BOOL:
        return x
    return (x > 0).cast(x.dtype) - (x < 0).cast(x.dtype)


def _is_infinite(emit: Emitter, x: Node) -> Node:
    if not x.dtype.is_floating:
        return emit.constant(value=False, dtype=DType.BOOL, shape=x.shape)
    return x.apply("abs").equals(math.inf)


def _where(emit: Emitter, condition: Node, a: Operand, b: Operand) -> Node:
    chosen = emit.operand(condition, DType.BOOL, emit.shape)
    return chosen.apply("where", *_both_sides(emit, a, b))


def _masked_fill(emit: Emitter, x: Node, mask: Node, value: Operand) -> Node:
    return _where(emit, mask, value, x)


def _convert(emit: Emitter, x: Node, *_: Any) -> Node:
    return x.cast(emit.dtype)


def _convert_prim(_: Emitter, x: Node, dtype: Any) -> Node:
    return x.cast(from_torch_dtype(dtype))


def _both(name: str, rule: Rule, *overloads: str) -> dict[str, Rule]:
    return {f"aten.{name}.{overload}": rule for overload in overloads or _TENSOR_OR_SCALAR}


_FLOAT_UNARY = "exp log sqrt rsqrt tanh erf sin cos sigmoid".split()
_TENSOR_OR_SCALAR = ("Tensor", "Scalar")

_TABLES: tuple[Mapping[str, Rule], ...] = (
    *(_both(op, _compare(op)) for op in "eq ne lt le gt ge".split()),
    *(_both(f"bitwise_{op}", _binary(op)) for op in ("and", "or", "xor")),
    _both("add", _scaled("add")),
    _both("sub", _scaled("sub")),
    _both("mul", _multiplicative("mul")),
    _both("div", _multiplicative("div")),
    _both("div", _divide_mode, "Tensor_mode", "Scalar_mode"),
    _both("remainder", _binary("mod")),
    _both("fmod", _truncated_remainder),
    _both("floor_divide", _floor_divide, "default", "Scalar"),
    _both("rsub", _reverse_subtract),
    _both("pow", _power, "Tensor_Scalar", "Tensor_Tensor", "Scalar"),
    _both("where", _where, "self", "ScalarSelf", "ScalarOther", "Scalar"),
    _both("masked_fill", _masked_fill),
    _both("to", _convert, "dtype", "device", "other", "dtype_layout"),
)
_BY_NAME: Mapping[str, Rule] = {
    **{name: _float_unary(name) for name in _FLOAT_UNARY},
    **{f"logical_{op}": _logical(op) for op in ("and", "or", "xor")},
    "neg": _plain_unary("neg"),
    "abs": _plain_unary("abs"),
    "maximum": _binary("max"),
    "minimum": _binary("min"),
    "logical_not": lambda _, x: ~truth(x),
    "bitwise_not": _bitwise_not,
    "silu": _in_float32(lambda f: f * f.apply("sigmoid")),
    "gelu": _gelu,
    "relu": lambda _, x: x.binary("max", 0),
    "clamp": _clamp,
    "hardtanh": _clamp,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "reciprocal": lambda emit, x: 1.0 / x.cast(emit.dtype),
    "log1p": _in_float32(_log1p),
    "expm1": _in_float32(_grown_less_one),
    "log2": _log_base(2.0),
    "log10": _log_base(10.0),
    "exp2": _in_float32(lambda f: (f * math.log(2.0)).apply("exp")),
    "floor": _of_fractions(lambda x: x.apply("floor")),
    "ceil": _of_fractions(_ceil),
    "trunc": _of_fractions(_truncate),
    "round": _of_fractions(_round),
    "tan": _in_float32(lambda f: f.apply("sin") / f.apply("cos")),
    "sign": _sign,
    "isnan": lambda _, x: x.differs(x),
    "isinf": _is_infinite,
    "_to_copy": _convert,
}

RULES: Mapping[str, Rule] = {
    **{f"aten.{name}.default": rule for name, rule in _BY_NAME.items()},
    **{name: rule for table in _TABLES for name, rule in table.items()},
    "prims.convert_element_type.default": _convert_prim,
}
"""Rules by the name of the ATen overload."""
