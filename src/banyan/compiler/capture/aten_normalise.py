"""ATen operations that normalise: RMS norm, layer norm, group norm."""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import mean_over
from banyan.compiler.capture.emitter import Emitter, Rule, in_own_types
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType

F32 = DType.FLOAT32


def _last_axes(x: Node, size: Sequence[Dim]) -> range:
    return range(x.tensor.rank - len(size), x.tensor.rank)


def _rms_norm(
    emit: Emitter,
    x: Node,
    size: Sequence[Dim],
    weight: Node | None = None,
    epsilon: float | None = None,
) -> Node:
    wide = x.cast(F32)
    mean = mean_over(wide * wide, _last_axes(x, size), keep=True)
    result = wide * (mean + (1.1920929e-07 if epsilon is None else epsilon)).apply("rsqrt")
    return _scaled_and_moved(result, weight, None).cast(emit.dtype)


def _normalised(x: Node, axes: Sequence[int], epsilon: float) -> tuple[Node, Node, Node]:
    """A float32 tensor with mean 0 and variance 1 over `axes`; its mean and its 1 / deviation."""
    mean = mean_over(x, axes, keep=True)
    centred = x - mean
    scale = (mean_over(centred * centred, axes, keep=True) + epsilon).apply("rsqrt")
    return centred * scale, mean, scale


def _scaled_and_moved(x: Node, weight: Node | None, bias: Node | None) -> Node:
    if weight is not None:
        x = x * weight.cast(F32)
    return x if bias is None else x + bias.cast(F32)


def _native_layer_norm(
    emit: Emitter,
    x: Node,
    size: Sequence[Dim],
    weight: Node | None = None,
    bias: Node | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> tuple[Node, ...]:
    result, mean, scale = _normalised(x.cast(F32), _last_axes(x, size), epsilon)
    return _scaled_and_moved(result, weight, bias), mean, scale


def _layer_norm(emit: Emitter, *args: Any) -> Node:
    return _native_layer_norm(emit, *args)[0].cast(emit.dtype)


def _native_group_norm(
    emit: Emitter,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    *sizes: Any,
) -> tuple[Node, ...]:
    batch, channels, places, groups, epsilon = sizes
    parts = x.reshape((batch, groups, channels // groups * places))
    result, mean, scale = _normalised(parts.cast(F32), (2,), epsilon)
    tall = (channels, *(1,) * (x.tensor.rank - 2))
    factor, offset = (v if v is None else v.reshape(tall) for v in (weight, bias))
    whole = _scaled_and_moved(result.reshape(x.shape), factor, offset)
    return whole, mean.reshape((batch, groups)), scale.reshape((batch, groups))


RULES: Mapping[str, Rule] = {
    "aten.rms_norm.default": _rms_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.native_layer_norm.default": in_own_types(_native_layer_norm),
    "aten.native_group_norm.default": in_own_types(_native_group_norm),
}
"""Rules by the name of the ATen overload."""
