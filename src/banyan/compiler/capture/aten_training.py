"""ATen operations of training: losses, what backward graphs call, and attention with its log-sums.

Everything is computed in float32 and rounded once, as PyTorch's kernels do.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.emitter import Emitter, Rule, from_torch_dtype
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType
from banyan.foundation.errors import GraphError

F32 = DType.FLOAT32
NONE, MEAN = 0, 1
"""Reductions of a loss, as PyTorch numbers them; the third is the sum."""


def _wide(emit: Emitter, x: Node) -> Node:
    return emit.cast(x, F32)


def _narrow(emit: Emitter, x: Node, place: int) -> Node:
    """`x` in the type of the call's result number `place`."""
    return emit.cast(x, from_torch_dtype(emit.result[place].dtype))


def _mean(emit: Emitter, x: Node, axes: Sequence[int]) -> Node:
    total = emit.reduce(x, axes, "sum", keep=True)
    count = emit.operand(product(tuple(x.shape[a] for a in axes)), F32, total.shape)
    return emit.broadcast(emit.add("div", total, count), x.shape)


def _weights(emit: Emitter, target: Node, weight: Node | None, ignored: int) -> tuple[Node, Node]:
    """The weight of each target, 0 where it is ignored; and targets that are safe to look up."""
    kept = emit.scalar("ne", target, ignored)
    safe = emit.add("where", kept, target, emit.constant(0, target.dtype, target.shape))
    found = emit.constant(1.0, F32, target.shape)
    if weight is not None:
        found = emit.add("gather", _wide(emit, weight), safe, axis=0)
    return emit.add("where", kept, found, emit.constant(0.0, F32, target.shape)), safe


def _require_rows(x: Node) -> None:
    if x.tensor.rank != 2:
        raise GraphError("nll_loss of something that is no table of rows")


def _nll_loss(
    emit: Emitter, x: Node, target: Node, weight: Node | None, reduction: int, ignored: int
) -> tuple[Node, ...]:
    _require_rows(x)
    rows = x.shape[0]
    weights, safe = _weights(emit, target, weight, ignored)
    column = emit.reshape(safe, (rows, 1))
    picked = emit.reshape(emit.add("take_along", x, column, axis=1), (rows,))
    # An ignored row counts 0 even where it holds infinity.
    loss = emit.add("neg", emit.add("mul", _wide(emit, picked), weights))
    zero = emit.constant(0.0, F32, weights.shape)
    loss = emit.add("where", emit.scalar("eq", weights, 0.0), zero, loss)
    total = emit.reduce(weights, (0,), "sum")
    if reduction != NONE:
        loss = emit.reduce(loss, (0,), "sum")
    if reduction == MEAN:
        loss = emit.add("div", loss, total)
    return _narrow(emit, loss, 0), _narrow(emit, total, 1)


def _nll_loss_backward(emit: Emitter, gradient: Node, x: Node, target: Node, *options: Any) -> Node:
    """-weight * gradient at each row's target, 0 elsewhere."""
    _require_rows(x)
    weight, reduction, ignored, total = options
    rows, classes = x.shape
    weights, safe = _weights(emit, target, weight, ignored)
    scale = emit.broadcast(_wide(emit, gradient), (rows,))
    if reduction == MEAN:
        scale = emit.add("div", scale, emit.broadcast(_wide(emit, total), (rows,)))
    change = emit.add("neg", emit.add("mul", scale, weights))
    # An ignored row gets 0 even where all are ignored, whose mean divides by nothing.
    kept = emit.scalar("ne", target, ignored)
    change = emit.add("where", kept, change, emit.constant(0.0, F32, change.shape))
    change = emit.cast(change, emit.dtype)
    column = emit.add("iota", size=classes, dtype=DType.INT64)
    here = emit.add(
        "eq",
        emit.broadcast(column, x.shape),
        emit.broadcast(emit.reshape(emit.cast(safe, DType.INT64), (rows, 1)), x.shape),
    )
    spread = emit.broadcast(emit.reshape(change, (rows, 1)), x.shape)
    return emit.add("where", here, spread, emit.constant(0.0, emit.dtype, x.shape))


def _log_softmax_backward(emit: Emitter, gradient: Node, output: Node, axis: int, *_: Any) -> Node:
    axes = (axis % output.tensor.rank,)
    wide = _wide(emit, gradient)
    total = emit.broadcast(emit.reduce(wide, axes, "sum", keep=True), wide.shape)
    weights = emit.add("exp", _wide(emit, output))
    return emit.cast(emit.add("sub", wide, emit.add("mul", weights, total)), emit.dtype)


def _softmax_backward(emit: Emitter, gradient: Node, output: Node, axis: int, *_: Any) -> Node:
    axes = (axis % output.tensor.rank,)
    wide, weights = _wide(emit, gradient), _wide(emit, output)
    total = emit.reduce(emit.add("mul", wide, weights), axes, "sum", keep=True)
    change = emit.add("sub", wide, emit.broadcast(total, wide.shape))
    return emit.cast(emit.add("mul", weights, change), emit.dtype)


def _layer_norm_backward(
    emit: Emitter, gradient: Node, x: Node, size: Sequence[Dim], mean: Node, *rest: Any
) -> tuple[Any, ...]:
    scale, weight, _bias, wanted = rest
    lead = x.tensor.rank - len(size)
    inner, outer = tuple(range(lead, x.tensor.rank)), tuple(range(lead))
    wide, change = _wide(emit, x), _wide(emit, gradient)
    spread = emit.broadcast(_wide(emit, scale), x.shape)
    centred = emit.add("sub", wide, emit.broadcast(_wide(emit, mean), x.shape))
    normed = emit.add("mul", centred, spread)
    results: list[Any] = [None, None, None]
    if wanted[0]:
        own = change
        if weight is not None:
            own = emit.add("mul", change, emit.operand(weight, F32, x.shape))
        along = emit.add("mul", normed, _mean(emit, emit.add("mul", own, normed), inner))
        inside = emit.add("sub", emit.add("sub", own, _mean(emit, own, inner)), along)
        results[0] = _narrow(emit, emit.add("mul", spread, inside), 0)
    if wanted[1]:
        total = emit.reduce(emit.add("mul", change, normed), outer, "sum")
        results[1] = _narrow(emit, total, 1)
    if wanted[2]:
        results[2] = _narrow(emit, emit.reduce(change, outer, "sum"), 2)
    return tuple(results)


def _attention(
    emit: Emitter,
    query: Node,
    key: Node,
    value: Node,
    mask: Node | None,
    causal: bool,
    scale: float,
) -> tuple[Node, ...]:
    masks = () if mask is None else (mask,)
    attrs = {"causal": bool(causal), "scale": float(scale)}
    node = emit.add("attention_forward", query, key, value, *masks, **attrs)
    return tuple(emit.add("get", node, index=i) for i in range(2))


def _attention_backward(emit: Emitter, *arguments: Any) -> tuple[Node, ...]:
    tensors, (mask, causal, scale) = arguments[:6], arguments[6:]
    masks = () if mask is None else (mask,)
    attrs = {"causal": bool(causal), "scale": float(scale)}
    node = emit.add("attention_backward", *tensors, *masks, **attrs)
    return tuple(emit.add("get", node, index=i) for i in range(3))


RULES: Mapping[str, Rule] = {
    "aten.nll_loss_forward.default": _nll_loss,
    "aten.nll_loss_backward.default": _nll_loss_backward,
    "aten._log_softmax_backward_data.default": _log_softmax_backward,
    "aten._softmax_backward_data.default": _softmax_backward,
    "aten.native_layer_norm_backward.default": _layer_norm_backward,
    "banyan.attention_forward.default": _attention,
    "banyan.attention_backward.default": _attention_backward,
}
"""Rules by the name of the ATen overload."""
