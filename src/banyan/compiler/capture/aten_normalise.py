"""ATen operations that normalise: RMS norm, layer norm, group norm, batch norm."""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import Unlowered, mean_over
from banyan.compiler.capture.emitter import Emitter, Rule, in_own_types
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
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


def _by_channel(x: Node, values: Node | None) -> Node | None:
    """Values [C] that meet the channels of `x` [B, C, *L]."""
    return None if values is None else values.reshape((x.shape[1], *(1,) * (x.tensor.rank - 2)))


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
    factor, offset = _by_channel(x, weight), _by_channel(x, bias)
    whole = _scaled_and_moved(result.reshape(x.shape), factor, offset)
    return whole, mean.reshape((batch, groups)), scale.reshape((batch, groups))


def _batch_norm(
    emit: Emitter,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node,
    variance: Node,
    _: float,
    epsilon: float,
) -> tuple[Node, ...]:
    """With the statistics of training; PyTorch then gives two tensors without elements."""
    scale = (variance.cast(F32) + epsilon).apply("rsqrt")
    scale = scale if weight is None else scale * weight.cast(F32)
    offset = -(mean.cast(F32) * scale)
    offset = offset if bias is None else offset + bias.cast(F32)
    nothing = emit.constant(0.0, F32, (0,))
    result = _scaled_and_moved(x.cast(F32), _by_channel(x, scale), _by_channel(x, offset))
    return result, nothing, nothing


def _batch_norm_of_training(
    emit: Emitter,
    x: Node,
    weight: Node | None,
    bias: Node | None,
    mean: Node,
    variance: Node,
    *options: Any,
) -> tuple[Node, ...]:
    """Normalised by its own statistics, which then have their part in those that are kept."""
    is_training, momentum, epsilon = options
    if not is_training:
        raise Unlowered("batch norm that keeps its statistics and has gradients")
    axes = [axis for axis in range(x.tensor.rank) if axis != 1]
    wide = x.cast(F32)
    result, own, scale = _normalised(wide, axes, epsilon)
    spread = mean_over((wide - own) * (wide - own), axes, keep=True).reshape(mean.shape)
    factor, offset = _by_channel(x, weight), _by_channel(x, bias)
    own, scale = own.reshape(mean.shape), scale.reshape(mean.shape)
    count = product(tuple(x.shape[axis] for axis in axes))
    spread = spread * emit.operand(count, F32, mean.shape)
    spread = spread / emit.operand(count - 1, F32, mean.shape)
    kept = [
        old.cast(F32) * (1.0 - momentum) + new * momentum
        for old, new in ((mean, own), (variance, spread))
    ]
    return _scaled_and_moved(result, factor, offset), own, scale, *kept


RULES: Mapping[str, Rule] = {
    "aten.rms_norm.default": _rms_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.native_layer_norm.default": in_own_types(_native_layer_norm),
    "aten.native_group_norm.default": in_own_types(_native_group_norm),
    "aten._native_batch_norm_legit_no_training.default": in_own_types(_batch_norm),
    "aten._native_batch_norm_legit_functional.default": in_own_types(_batch_norm_of_training),
}
"""Rules by the name of the ATen overload."""
