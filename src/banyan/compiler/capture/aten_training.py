"""ATen operations of training: losses, what backward graphs call, and attention with its log-sums.

Everything is computed in float32 and rounded once, as PyTorch's kernels do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import mean_over
from banyan.compiler.capture.emitter import Emitter, Rule, in_own_types
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.foundation.errors import GraphError

F32 = DType.FLOAT32
NONE, MEAN = 0, 1
"""Reductions of a loss, as PyTorch numbers them; the third is the sum."""


def _weights(emit: Emitter, target: Node, weight: Node | None, ignored: int) -> tuple[Node, Node]:
    """The weight of each target, 0 where it is ignored; and targets that are safe to look up."""
    kept = target.differs(ignored)
    safe = kept.choose(target, 0)
    if weight is None:
        found = emit.constant(1.0, F32, target.shape)
    else:
        found = weight.cast(F32).apply("gather", safe, axis=0)
    return kept.choose(found, 0.0), safe


def _require_rows(x: Node) -> None:
    if x.tensor.rank != 2:
        raise GraphError("nll_loss of something that is no table of rows")


def _nll_loss(
    emit: Emitter, x: Node, target: Node, weight: Node | None, reduction: int, ignored: int
) -> tuple[Node, ...]:
    _require_rows(x)
    rows = x.shape[0]
    weights, safe = _weights(emit, target, weight, ignored)
    picked = x.apply("take_along", safe.reshape((rows, 1)), axis=1).reshape((rows,))
    # An ignored row counts 0 even where it holds infinity.
    loss = weights.equals(0.0).choose(0.0, -(picked.cast(F32) * weights))
    total = weights.reduce("sum", (0,))
    if reduction != NONE:
        loss = loss.reduce("sum", (0,))
    return loss / total if reduction == MEAN else loss, total


def _nll_loss_backward(emit: Emitter, gradient: Node, x: Node, target: Node, *options: Any) -> Node:
    """-weight * gradient at each row's target, 0 elsewhere."""
    _require_rows(x)
    weight, reduction, ignored, total = options
    rows, classes = x.shape
    weights, safe = _weights(emit, target, weight, ignored)
    scale = gradient.cast(F32).expand((rows,))
    if reduction == MEAN:
        scale = scale / total.cast(F32)
    # An ignored row gets 0 even where all are ignored, whose mean divides by nothing.
    change = target.differs(ignored).choose(-(scale * weights), 0.0).cast(emit.dtype)
    here = emit.iota(classes).equals(safe.cast(DType.INT64).reshape((rows, 1)))
    return here.choose(change.reshape((rows, 1)), 0.0)


def _log_softmax_backward(emit: Emitter, gradient: Node, output: Node, axis: int, *_: Any) -> Node:
    wide = gradient.cast(F32)
    total = wide.reduce("sum", (axis % output.tensor.rank,), keep=True)
    return wide - output.cast(F32).apply("exp") * total


def _softmax_backward(emit: Emitter, gradient: Node, output: Node, axis: int, *_: Any) -> Node:
    wide, weights = gradient.cast(F32), output.cast(F32)
    total = (wide * weights).reduce("sum", (axis % output.tensor.rank,), keep=True)
    return weights * (wide - total)


def _layer_norm_backward(
    emit: Emitter, gradient: Node, x: Node, size: Sequence[Dim], mean: Node, *rest: Any
) -> tuple[Any, ...]:
    scale, weight, _bias, wanted = rest
    lead = x.tensor.rank - len(size)
    inner, outer = range(lead, x.tensor.rank), range(lead)
    change = gradient.cast(F32)
    spread = scale.cast(F32).expand(x.shape)
    normed = (x.cast(F32) - mean.cast(F32)) * spread
    results: list[Any] = [None, None, None]
    if wanted[0]:
        own = change if weight is None else change * weight.cast(F32)
        along = normed * mean_over(own * normed, inner, keep=True)
        results[0] = spread * (own - mean_over(own, inner, keep=True) - along)
    if wanted[1]:
        results[1] = (change * normed).reduce("sum", outer)
    if wanted[2]:
        results[2] = change.reduce("sum", outer)
    return tuple(results)


def _whole(op: str, num_tensors: int, num_results: int) -> Rule:
    """Attention as one operation: tensors, then an optional mask, whether causal, and the scale."""

    def rule(emit: Emitter, *arguments: Any) -> tuple[Node, ...]:
        tensors, (mask, causal, scale) = arguments[:num_tensors], arguments[num_tensors:]
        masks = () if mask is None else (mask,)
        node = emit.add(op, *tensors, *masks, causal=bool(causal), scale=float(scale))
        return tuple(node.apply("get", index=i) for i in range(num_results))

    return rule


_ROUNDED_ONCE: Mapping[str, Rule] = {
    "nll_loss_forward": _nll_loss,
    "nll_loss_backward": _nll_loss_backward,
    "_log_softmax_backward_data": _log_softmax_backward,
    "_softmax_backward_data": _softmax_backward,
    "native_layer_norm_backward": _layer_norm_backward,
}
RULES: Mapping[str, Rule] = {
    **{f"aten.{name}.default": in_own_types(rule) for name, rule in _ROUNDED_ONCE.items()},
    "banyan.attention_forward.default": _whole("attention_forward", 3, 2),
    "banyan.attention_backward.default": _whole("attention_backward", 6, 3),
}
"""Rules by the name of the ATen overload."""
