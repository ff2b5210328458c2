"""ATen operations that work element by element."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from banyan.compiler.capture.emitter import (
    Emitter,
    Number,
    Operand,
    Rule,
    from_torch_dtype,
    promoted,
)
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.types import DType


def _float_unary(op: str) -> Rule:
    def rule(emit: Emitter, x: Node, *_: Any) -> Node:
        return emit.add(op, emit.cast(x, emit.dtype))

    return rule


def _plain_unary(op: str) -> Rule:
    def rule(emit: Emitter, x: Node, *_: Any) -> Node:
        return emit.add(op, x)

    return rule


def _binary(op: str) -> Rule:
    def rule(emit: Emitter, a: Operand, b: Operand, *_: Any) -> Node:
        return emit.pointwise(op, a, b, dtype=emit.dtype)

    return rule


def _multiplicative(op: str) -> Rule:
    """A factor of 16-bit fractions keeps the digits it was written with, as in PyTorch."""

    def rule(emit: Emitter, a: Operand, b: Operand, *_: Any) -> Node:
        if not any(_loses_digits(x, emit.dtype) for x in (a, b)):
            return emit.pointwise(op, a, b, dtype=emit.dtype)
        return emit.cast(emit.pointwise(op, a, b, dtype=DType.FLOAT32), emit.dtype)

    return rule


def _loses_digits(x: Operand, dtype: DType) -> bool:
    if not isinstance(x, int | float) or dtype not in (DType.BFLOAT16, DType.FLOAT16):
        return False
    with np.errstate(over="ignore"):
        return float(np.asarray(float(x)).astype(dtype.numpy)) != float(x)


def _compare(op: str) -> Rule:
    def rule(emit: Emitter, a: Operand, b: Operand) -> Node:
        return emit.pointwise(op, a, b)

    return rule


def _scaled(op: str) -> Rule:
    def rule(emit: Emitter, a: Operand, b: Operand, alpha: Number = 1) -> Node:
        left = emit.operand(a, emit.dtype, emit.shape)
        right = emit.operand(b, emit.dtype, emit.shape)
        return emit.add(op, left, right if alpha == 1 else emit.scalar("mul", right, alpha))

    return rule


def _logical(op: str) -> Rule:
    def rule(emit: Emitter, a: Node, b: Node) -> Node:
        sides = (_truth(emit, a), _truth(emit, b))
        return emit.pointwise(op, *sides, dtype=DType.BOOL)

    return rule


def _truth(emit: Emitter, x: Node) -> Node:
    return x if x.dtype is DType.BOOL else emit.scalar("ne", x, 0)


def _logical_not(emit: Emitter, x: Node) -> Node:
    return emit.add("not", _truth(emit, x))


def _bitwise_not(emit: Emitter, x: Node) -> Node:
    if x.dtype is DType.BOOL:
        return emit.add("not", x)
    return emit.scalar("sub", emit.add("neg", x), 1)


def _divide_mode(emit: Emitter, a: Operand, b: Operand, rounding_mode: str | None) -> Node:
    if rounding_mode == "floor":
        return _floor_divide(emit, a, b)
    if rounding_mode is None:
        return _multiplicative("div")(emit, a, b)  # type: ignore[return-value]
    if not emit.dtype.is_floating:
        return _truncated_quotient(emit, a, b)
    quotient = emit.pointwise("div", a, b, dtype=DType.FLOAT32)
    floor = emit.add("floor", quotient)
    ceiling = emit.add("neg", emit.add("floor", emit.add("neg", quotient)))
    truncated = emit.add("where", emit.scalar("lt", quotient, 0.0), ceiling, floor)
    return emit.cast(truncated, emit.dtype)


def _truncated_quotient(emit: Emitter, a: Operand, b: Operand) -> Node:
    """Whole numbers: one more than the floor where a remainder was cut off below zero."""
    left, right = (emit.operand(x, emit.dtype, emit.shape) for x in (a, b))
    floor = emit.add("floordiv", left, right)
    inexact = emit.scalar("ne", emit.add("mod", left, right), 0)
    negative = emit.add("xor", emit.scalar("lt", left, 0), emit.scalar("lt", right, 0))
    return emit.add("add", floor, emit.cast(emit.add("and", inexact, negative), emit.dtype))


def _floor_divide(emit: Emitter, a: Operand, b: Operand) -> Node:
    if not promoted((a, b)).is_floating:
        return emit.pointwise("floordiv", a, b, dtype=emit.dtype)
    left, right = (emit.operand(x, DType.FLOAT32, emit.shape) for x in (a, b))
    plain = emit.add("div", left, right)
    by_zero = emit.scalar("eq", right, 0.0)
    whole = _float_floor_quotient(emit, left, right)
    return emit.cast(emit.add("where", by_zero, plain, whole), emit.dtype)


def _float_floor_quotient(emit: Emitter, a: Node, b: Node) -> Node:
    """The floor of the exact a / b, as Python has it: 1 // 0.1 is 9 though 1 / 0.1 rounds to 10."""
    rest = _signed_remainder(emit, a, b)
    below = emit.add("xor", emit.scalar("lt", b, 0.0), emit.scalar("lt", rest, 0.0))
    lowered = emit.cast(emit.add("and", emit.scalar("ne", rest, 0.0), below), DType.FLOAT32)
    quotient = emit.add("sub", emit.add("div", emit.add("sub", a, rest), b), lowered)
    floor = emit.add("floor", quotient)
    short = emit.scalar("gt", emit.add("sub", quotient, floor), 0.5)
    return emit.add("add", floor, emit.cast(short, DType.FLOAT32))


def _reverse_subtract(emit: Emitter, a: Node, b: Operand, alpha: Number = 1) -> Node:
    left = a if alpha == 1 else emit.scalar("mul", a, alpha)
    return emit.pointwise("sub", b, left, dtype=emit.dtype)


def _truncated_remainder(emit: Emitter, a: Operand, b: Operand) -> Node:
    """The remainder with the sign of `a`, as in C."""
    left, right = (emit.operand(x, emit.dtype, emit.shape) for x in (a, b))
    if emit.dtype.is_floating:
        return _signed_remainder(emit, left, right)
    # The lowest whole number has no size of its own type, so sizes are of no use here.
    rest = emit.add("mod", left, right)
    other = emit.add("xor", emit.scalar("lt", left, 0), emit.scalar("lt", right, 0))
    other = emit.add("and", other, emit.scalar("ne", rest, 0))
    return emit.add("where", other, emit.add("sub", rest, right), rest)


def _signed_remainder(emit: Emitter, left: Node, right: Node) -> Node:
    size = emit.add("mod", emit.add("abs", left), emit.add("abs", right))
    return emit.add("where", emit.scalar("lt", left, 0), emit.add("neg", size), size)


def _power(emit: Emitter, x: Operand, exponent: Operand) -> Node:
    if not isinstance(x, Node) or not isinstance(exponent, int | float):
        return emit.pointwise("pow", x, exponent, dtype=emit.dtype)
    base = emit.cast(x, emit.dtype)
    if exponent in (2, 3):
        square = emit.add("mul", base, base)
        return square if exponent == 2 else emit.add("mul", square, base)
    if exponent == 1:
        return base
    special = {0.5: "sqrt", -0.5: "rsqrt"}.get(float(exponent))
    return emit.add(special, base) if special else emit.scalar("pow", base, exponent)


def _silu(emit: Emitter, x: Node) -> Node:
    return emit.in_float32(x, lambda f: emit.add("mul", f, emit.add("sigmoid", f)))


def _gelu(emit: Emitter, x: Node, approximate: str = "none") -> Node:
    def exact(f: Node) -> Node:
        phi = emit.add("erf", emit.scalar("mul", f, math.sqrt(0.5)))
        return emit.add("mul", emit.scalar("mul", f, 0.5), emit.scalar("add", phi, 1.0))

    def by_tanh(f: Node) -> Node:
        cube = emit.add("mul", emit.add("mul", f, f), f)
        inner = emit.add("add", f, emit.scalar("mul", cube, 0.044715))
        phi = emit.add("tanh", emit.scalar("mul", inner, math.sqrt(2 / math.pi)))
        return emit.add("mul", emit.scalar("mul", f, 0.5), emit.scalar("add", phi, 1.0))

    return emit.in_float32(x, by_tanh if approximate == "tanh" else exact)


def _relu(emit: Emitter, x: Node) -> Node:
    return emit.scalar("max", x, 0)


def _clamp(emit: Emitter, x: Node, low: Number | None = None, high: Number | None = None) -> Node:
    result = emit.cast(x, emit.dtype)
    if low is not None:
        result = emit.scalar("max", result, low)
    return result if high is None else emit.scalar("min", result, high)


def _leaky_relu(emit: Emitter, x: Node, slope: Number = 0.01) -> Node:
    return emit.in_float32(
        x,
        lambda f: emit.add("where", emit.scalar("gt", f, 0), f, emit.scalar("mul", f, slope)),
    )


def _elu(
    emit: Emitter, x: Node, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1
) -> Node:
    def formula(f: Node) -> Node:
        grown = _grown_less_one(emit, emit.scalar("mul", f, input_scale))
        low = emit.scalar("mul", grown, alpha)
        chosen = emit.add("where", emit.scalar("gt", f, 0.0), f, low)
        return emit.scalar("mul", chosen, scale)

    return emit.in_float32(x, formula)


def _reciprocal(emit: Emitter, x: Node) -> Node:
    return emit.scalar("div", emit.cast(x, emit.dtype), 1.0, reverse=True)


def _log1p(emit: Emitter, x: Node) -> Node:
    def formula(f: Node) -> Node:
        # What rounding 1 + f lost is added back to first order.
        moved = emit.scalar("add", f, 1.0)
        lost = emit.add("sub", f, emit.scalar("sub", moved, 1.0))
        plain = emit.add("log", moved)
        better = emit.add("add", plain, emit.add("div", lost, moved))
        inexact = emit.scalar("gt", emit.add("abs", lost), 0.0)
        return emit.add("where", inexact, better, plain)

    return emit.in_float32(x, formula)


def _grown_less_one(emit: Emitter, f: Node) -> Node:
    """e^f - 1 = tanh(f / 2) (e^f + 1), which keeps its digits near zero."""
    grown = emit.scalar("add", emit.add("exp", f), 1.0)
    return emit.add("mul", emit.add("tanh", emit.scalar("mul", f, 0.5)), grown)


def _expm1(emit: Emitter, x: Node) -> Node:
    return emit.in_float32(x, lambda f: _grown_less_one(emit, f))


def _log_base(base: float) -> Rule:
    def rule(emit: Emitter, x: Node) -> Node:
        factor = 1.0 / math.log(base)
        return emit.in_float32(x, lambda f: emit.scalar("mul", emit.add("log", f), factor))

    return rule


def _exp2(emit: Emitter, x: Node) -> Node:
    return emit.in_float32(x, lambda f: emit.add("exp", emit.scalar("mul", f, math.log(2.0))))


def _ceil(emit: Emitter, x: Node) -> Node:
    return emit.add("neg", emit.add("floor", emit.add("neg", x))) if x.dtype.is_floating else x


def _truncate(emit: Emitter, x: Node) -> Node:
    if not x.dtype.is_floating:
        return x
    return emit.add("where", emit.scalar("lt", x, 0), _ceil(emit, x), emit.add("floor", x))


def _round(emit: Emitter, x: Node) -> Node:
    """To the nearest whole number, halves to the even one."""
    if not x.dtype.is_floating:
        return x
    below = emit.add("floor", x)
    part = emit.add("sub", x, below)
    odd = emit.scalar("ne", emit.scalar("mod", below, 2), 0)
    up = emit.add("and", emit.scalar("eq", part, 0.5), odd)
    up = emit.add("or", up, emit.scalar("gt", part, 0.5))
    return emit.add("where", up, emit.scalar("add", below, 1), below)


def _tangent(emit: Emitter, x: Node) -> Node:
    return emit.in_float32(x, lambda f: emit.add("div", emit.add("sin", f), emit.add("cos", f)))


def _sign(emit: Emitter, x: Node) -> Node:
    zero = emit.constant(0, x.dtype, x.shape)
    positive = emit.cast(emit.add("gt", x, zero), x.dtype)
    return emit.add("sub", positive, emit.cast(emit.add("lt", x, zero), x.dtype))


def _is_nan(emit: Emitter, x: Node) -> Node:
    return emit.add("ne", x, x)


def _is_infinite(emit: Emitter, x: Node) -> Node:
    if not x.dtype.is_floating:
        return emit.constant(value=False, dtype=DType.BOOL, shape=x.shape)
    return emit.scalar("eq", emit.add("abs", x), math.inf)


def _where(emit: Emitter, condition: Node, a: Operand, b: Operand) -> Node:
    chosen = emit.operand(condition, DType.BOOL, emit.shape)
    sides = (emit.operand(x, emit.dtype, emit.shape) for x in (a, b))
    return emit.add("where", chosen, *sides)


def _masked_fill(emit: Emitter, x: Node, mask: Node, value: Operand) -> Node:
    return _where(emit, mask, value, x)


def _floor(emit: Emitter, x: Node) -> Node:
    return emit.add("floor", x) if x.dtype.is_floating else x


def _convert(emit: Emitter, x: Node, *_: Any) -> Node:
    return emit.cast(x, emit.dtype)


def _convert_prim(emit: Emitter, x: Node, dtype: Any) -> Node:
    return emit.cast(x, from_torch_dtype(dtype))


def _both(name: str, rule: Rule, *overloads: str) -> dict[str, Rule]:
    return {f"aten.{name}.{overload}": rule for overload in overloads}


_FLOAT_UNARY = "exp log sqrt rsqrt tanh erf sin cos sigmoid".split()
_TENSOR_OR_SCALAR = ("Tensor", "Scalar")

RULES: Mapping[str, Rule] = {
    **{f"aten.{name}.default": _float_unary(name) for name in _FLOAT_UNARY},
    **{f"aten.{name}.default": _plain_unary(name) for name in ("neg", "abs")},
    **_both("add", _scaled("add"), *_TENSOR_OR_SCALAR),
    **_both("sub", _scaled("sub"), *_TENSOR_OR_SCALAR),
    **_both("mul", _multiplicative("mul"), *_TENSOR_OR_SCALAR),
    **_both("div", _multiplicative("div"), *_TENSOR_OR_SCALAR),
    **_both("div", _divide_mode, "Tensor_mode", "Scalar_mode"),
    **_both("remainder", _binary("mod"), *_TENSOR_OR_SCALAR),
    **_both("fmod", _truncated_remainder, *_TENSOR_OR_SCALAR),
    **_both("floor_divide", _floor_divide, "default", "Scalar"),
    **_both("rsub", _reverse_subtract, *_TENSOR_OR_SCALAR),
    **_both("pow", _power, "Tensor_Scalar", "Tensor_Tensor", "Scalar"),
    **{
        f"aten.{op}.{o}": _compare(op)
        for op in "eq ne lt le gt ge".split()
        for o in _TENSOR_OR_SCALAR
    },
    **_both("maximum", _binary("max"), "default"),
    **_both("minimum", _binary("min"), "default"),
    **{f"aten.logical_{op}.default": _logical(op) for op in ("and", "or", "xor")},
    "aten.logical_not.default": _logical_not,
    "aten.bitwise_not.default": _bitwise_not,
    **{
        f"aten.bitwise_{op}.{o}": _binary(op)
        for op in ("and", "or", "xor")
        for o in _TENSOR_OR_SCALAR
    },
    "aten.silu.default": _silu,
    "aten.gelu.default": _gelu,
    "aten.relu.default": _relu,
    "aten.clamp.default": _clamp,
    "aten.hardtanh.default": _clamp,
    "aten.leaky_relu.default": _leaky_relu,
    "aten.elu.default": _elu,
    "aten.reciprocal.default": _reciprocal,
    "aten.log1p.default": _log1p,
    "aten.expm1.default": _expm1,
    "aten.log2.default": _log_base(2.0),
    "aten.log10.default": _log_base(10.0),
    "aten.exp2.default": _exp2,
    "aten.floor.default": _floor,
    "aten.ceil.default": _ceil,
    "aten.trunc.default": _truncate,
    "aten.round.default": _round,
    "aten.tan.default": _tangent,
    "aten.sign.default": _sign,
    "aten.isnan.default": _is_nan,
    "aten.isinf.default": _is_infinite,
    "aten.where.self": _where,
    **_both("where", _where, "ScalarSelf", "ScalarOther", "Scalar"),
    **_both("masked_fill", _masked_fill, *_TENSOR_OR_SCALAR),
    "aten._to_copy.default": _convert,
    **_both("to", _convert, "dtype", "device", "other", "dtype_layout"),
    "prims.convert_element_type.default": _convert_prim,
}
"""Rules by the name of the ATen overload."""
