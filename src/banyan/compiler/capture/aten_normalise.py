"""ATen operations that normalise: RMS norm, layer norm, group norm."""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import mean_over
from banyan.compiler.capture.emitter import Emitter, Rule, from_torch_dtype
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType


def _rms_norm(
    emit: Emitter,
    x: Node,
    size: Sequence[Dim],
    weight: Node | None = None,
    epsilon: float | None = None,
) -> Node:
    axes = tuple(range(x.tensor.rank - len(size), x.tensor.rank))
    wide = emit.cast(x, DType.FLOAT32)
    mean = mean_over(emit, emit.add("mul", wide, wide), axes, keep=True)
    small = 1.1920929e-07 if epsilon is None else epsilon
    scale = emit.add("rsqrt", emit.scalar("add", mean, small))
    result = emit.add("mul", wide, emit.broadcast(scale, x.shape))
    if weight is not None:
        result = emit.add("mul", result, emit.operand(weight, DType.FLOAT32, x.shape))
    return emit.cast(result, emit.dtype)


def _normalised(
    emit: Emitter, x: Node, axes: Sequence[int], epsilon: float
) -> tuple[Node, Node, Node]:
    """A float32 tensor with mean 0 and variance 1 over `axes`; its mean and its 1 / deviation."""
    mean = mean_over(emit, x, axes, keep=True)
    centred = emit.add("sub", x, emit.broadcast(mean, x.shape))
    variance = mean_over(emit, emit.add("mul", centred, centred), axes, keep=True)
    scale = emit.add("rsqrt", emit.scalar("add", variance, epsilon))
    return emit.add("mul", centred, emit.broadcast(scale, x.shape)), mean, scale


def _scaled_and_moved(emit: Emitter, x: Node, weight: Node | None, bias: Node | None) -> Node:
    if weight is not None:
        x = emit.add("mul", x, emit.operand(weight, DType.FLOAT32, x.shape))
    if bias is not None:
        x = emit.add("add", x, emit.operand(bias, DType.FLOAT32, x.shape))
    return emit.cast(x, emit.dtype)


def _layer_norm_parts(
    emit: Emitter,
    x: Node,
    size: Sequence[Dim],
    weight: Node | None = None,
    bias: Node | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> tuple[Node, ...]:
    axes = tuple(range(x.tensor.rank - len(size), x.tensor.rank))
    wide = emit.cast(x, DType.FLOAT32)
    result, mean, scale = _normalised(emit, wide, axes, epsilon)
    return _scaled_and_moved(emit, result, weight, bias), mean, scale


def _layer_norm(emit: Emitter, *args: Any) -> Node:
    return _layer_norm_parts(emit, *args)[0]


def _native_layer_norm(emit: Emitter, *args: Any) -> tuple[Node, ...]:
    return _in_own_types(emit, _layer_norm_parts(emit, *args))


def _in_own_types(emit: Emitter, parts: Sequence[Node]) -> tuple[Node, ...]:
    """Each result in the element type that PyTorch gives it."""
    pairs = zip(parts, emit.result, strict=True)
    return tuple(emit.cast(part, from_torch_dtype(fake.dtype)) for part, fake in pairs)


def _native_group_norm(
    emit: Emitter,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    *sizes: Any,
) -> tuple[Node, ...]:
    batch, channels, places, groups, epsilon = sizes
    parts = emit.reshape(x, (batch, groups, channels // groups * places))
    result, mean, scale = _normalised(emit, emit.cast(parts, DType.FLOAT32), (2,), epsilon)
    tall = (channels, *(1,) * (x.tensor.rank - 2))
    factor, offset = (v if v is None else emit.reshape(v, tall) for v in (weight, bias))
    whole = _scaled_and_moved(emit, emit.reshape(result, x.shape), factor, offset)
    kept = [emit.reshape(part, (batch, groups)) for part in (mean, scale)]
    return _in_own_types(emit, (whole, *kept))


RULES: Mapping[str, Rule] = {
    "aten.rms_norm.default": _rms_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.native_layer_norm.default": _native_layer_norm,
    "aten.native_group_norm.default": _native_group_norm,
}
"""Rules by the name of the ATen overload."""
