"""ATen operations that reduce, normalise or index."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from banyan.compiler.capture.emitter import (
    Emitter,
    Number,
    Rule,
    positive_axes,
    to_torch_dtype,
)
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType
from banyan.foundation.errors import GraphError

LOWEST = {DType.INT64: -(2**63), DType.INT32: -(2**31)}


class Unlowered(GraphError):
    """This use of an operation has no rule; the operation stays a call to the framework."""


def _sum(emit: Emitter, x: Node, axes: Any = None, keep: bool = False, *_: Any) -> Node:
    return _in_wide(
        emit, x, lambda w: emit.reduce(w, positive_axes(axes, x.tensor.rank), "sum", keep=keep)
    )


def _sum_all(emit: Emitter, x: Node, *_: Any) -> Node:
    return _sum(emit, x)


def _in_wide(emit: Emitter, x: Node, formula: Any) -> Node:
    """Sums of 16-bit fractions are kept in float32 and rounded once."""
    wide = DType.FLOAT32 if emit.dtype.is_floating else emit.dtype
    return emit.cast(formula(emit.cast(x, wide)), emit.dtype)


def _mean(emit: Emitter, x: Node, axes: Any = None, keep: bool = False, *_: Any) -> Node:
    chosen = positive_axes(axes, x.tensor.rank)
    return _in_wide(emit, x, lambda w: mean_over(emit, w, chosen, keep=keep))


def _mean_all(emit: Emitter, x: Node, *_: Any) -> Node:
    return _mean(emit, x)


def mean_over(emit: Emitter, x: Node, axes: Sequence[int], *, keep: bool) -> Node:
    """The mean over some axes."""
    total = emit.reduce(x, axes, "sum", keep=keep)
    count = emit.operand(product(tuple(x.shape[a] for a in axes)), x.dtype, total.shape)
    return emit.add("div", total, count)


def _variance(emit: Emitter, x: Node, axes: Any, correction: Number | None, keep: bool) -> Node:
    chosen = positive_axes(axes, x.tensor.rank)

    def formula(wide: Node) -> Node:
        mean = mean_over(emit, wide, chosen, keep=True)
        centred = emit.add("sub", wide, emit.broadcast(mean, wide.shape))
        total = emit.reduce(emit.add("mul", centred, centred), chosen, "sum", keep=keep)
        # The correction may be a fraction.
        count = emit.operand(product(tuple(x.shape[a] for a in chosen)), wide.dtype, total.shape)
        less = emit.scalar("sub", count, 1 if correction is None else correction)
        return emit.add("div", total, emit.scalar("max", less, 0))

    return _in_wide(emit, x, formula)


def _variance_correction(
    emit: Emitter, x: Node, axes: Any = None, correction: Number | None = None, keep: bool = False
) -> Node:
    return _variance(emit, x, axes, correction, keep)


def _extreme(kind: str) -> Rule:
    def rule(emit: Emitter, x: Node, axes: Any = None, keep: bool = False) -> Node:
        return extreme_or_nan(emit, x, positive_axes(axes, x.tensor.rank), kind, keep=keep)

    return rule


def extreme_or_nan(emit: Emitter, x: Node, axes: Sequence[int], kind: str, *, keep: bool) -> Node:
    """The largest or smallest; NaN where there is one, which the reduction itself passes over."""
    found = emit.reduce(x, axes, kind, keep=keep)
    if not x.dtype.is_floating:
        return found
    any_nan = emit.scalar("gt", emit.reduce(_nan_flags(emit, x), axes, "max", keep=keep), 0)
    return emit.add("where", any_nan, emit.constant(math.nan, x.dtype, found.shape), found)


def _nan_flags(emit: Emitter, x: Node) -> Node:
    return emit.cast(emit.add("ne", x, x), DType.INT32)


def _first_extreme(emit: Emitter, x: Node, axes: Sequence[int], *, keep: bool) -> Node:
    """The place of the largest, the first of equals; that of the first NaN where there is one."""
    found = emit.reduce(x, axes, "argmax", keep=keep)
    if not x.dtype.is_floating:
        return found
    flags = _nan_flags(emit, x)
    any_nan = emit.scalar("gt", emit.reduce(flags, axes, "max", keep=keep), 0)
    first_nan = emit.reduce(flags, axes, "argmax", keep=keep)
    return emit.add("where", any_nan, first_nan, found)


def _extreme_with_index(kind: str) -> Rule:
    def rule(emit: Emitter, x: Node, axis: int, keep: bool = False) -> tuple[Node, Node]:
        axes = positive_axes(axis, x.tensor.rank)
        position = _reversed_order(emit, x) if kind == "min" else x
        return (
            extreme_or_nan(emit, x, axes, kind, keep=keep),
            _first_extreme(emit, position, axes, keep=keep),
        )

    return rule


def _reversed_order(emit: Emitter, x: Node) -> Node:
    """The largest becomes the smallest. Whole numbers have no negative of their lowest."""
    if x.dtype.is_floating:
        return emit.add("neg", x)
    if x.dtype is DType.BOOL:
        return emit.add("not", x)
    return emit.scalar("sub", x, 255 if x.dtype is DType.UINT8 else -1, reverse=True)


def _argument(*, smallest: bool) -> Rule:
    def rule(emit: Emitter, x: Node, axis: int | None = None, keep: bool = False) -> Node:
        if axis is None:
            flat = emit.reshape(x, (x.tensor.num_elements,))
            return emit.reshape(rule(emit, flat, 0), emit.shape)
        ordered = _reversed_order(emit, x) if smallest else x
        return _first_extreme(emit, ordered, positive_axes(axis, x.tensor.rank), keep=keep)

    return rule


def _any(emit: Emitter, x: Node, axes: Any = None, keep: bool = False) -> Node:
    truth = x if x.dtype is DType.BOOL else emit.scalar("ne", x, 0)
    counted = emit.cast(truth, DType.INT32)
    found = emit.reduce(counted, positive_axes(axes, x.tensor.rank), "max", keep=keep)
    return emit.scalar("gt", found, 0)  # the largest of nothing is the lowest number


def _all(emit: Emitter, x: Node, axes: Any = None, keep: bool = False) -> Node:
    truth = x if x.dtype is DType.BOOL else emit.scalar("ne", x, 0)
    counted = emit.cast(truth, DType.INT32)
    found = emit.reduce(counted, positive_axes(axes, x.tensor.rank), "min", keep=keep)
    return emit.scalar("ne", found, 0)


def _product(emit: Emitter, x: Node, axis: Any = None, keep: bool = False, *_: Any) -> Node:
    return emit.reduce(
        emit.cast(x, emit.dtype), positive_axes(axis, x.tensor.rank), "prod", keep=keep
    )


def _cumsum(emit: Emitter, x: Node, axis: int, *_: Any) -> Node:
    if x.tensor.rank == 0:
        return emit.cast(x, emit.dtype)
    return _in_wide(emit, x, lambda w: emit.add("cumsum", w, axis=axis % x.tensor.rank))


def softmax_float32(emit: Emitter, x: Node, axis: int) -> Node:
    """Softmax of a float32 tensor over one axis; a row of -inf gives NaN, as in PyTorch."""
    top = emit.broadcast(emit.reduce(x, (axis,), "max", keep=True), x.shape)
    grown = emit.add("exp", emit.add("sub", x, top))
    total = emit.reduce(grown, (axis,), "sum", keep=True)
    return emit.add("div", grown, emit.broadcast(total, x.shape))


def _softmax(emit: Emitter, x: Node, axis: int, *_: Any) -> Node:
    wide = emit.cast(x, DType.FLOAT32)
    return emit.cast(softmax_float32(emit, wide, axis % x.tensor.rank), emit.dtype)


def _log_softmax(emit: Emitter, x: Node, axis: int, *_: Any) -> Node:
    axis %= x.tensor.rank
    wide = emit.cast(x, DType.FLOAT32)
    top = emit.broadcast(emit.reduce(wide, (axis,), "max", keep=True), x.shape)
    shifted = emit.add("sub", wide, top)
    total = emit.reduce(emit.add("exp", shifted), (axis,), "sum", keep=True)
    result = emit.add("sub", shifted, emit.broadcast(emit.add("log", total), x.shape))
    return emit.cast(result, emit.dtype)


def _vector_norm(
    emit: Emitter, x: Node, order: Number = 2, axes: Any = None, keep: bool = False, *_: Any
) -> Node:
    if order not in (1, 2):
        raise Unlowered("vector norm of an order other than 1 and 2")
    chosen = positive_axes(axes, x.tensor.rank)

    def formula(wide: Node) -> Node:
        if order == 1:
            return emit.reduce(emit.add("abs", wide), chosen, "sum", keep=keep)
        total = emit.reduce(emit.add("mul", wide, wide), chosen, "sum", keep=keep)
        return emit.add("sqrt", total)

    return _in_wide(emit, x, formula)


def _embedding(emit: Emitter, weight: Node, index: Node, *_: Any) -> Node:
    return emit.add("gather", weight, index, axis=0)


def _not_negative(emit: Emitter, index: Node, size: Dim) -> Node:
    """Python's negative indices counted from the front."""
    wide = emit.cast(index, DType.INT64)
    moved = emit.add("add", wide, emit.operand(size, DType.INT64, index.shape))
    return emit.add("where", emit.scalar("lt", wide, 0), moved, wide)


def _index_select(emit: Emitter, x: Node, axis: int, index: Node) -> Node:
    x, index = (emit.reshape(v, v.shape or (1,)) for v in (x, index))
    return emit.reshape(emit.add("gather", x, index, axis=axis % x.tensor.rank), emit.shape)


def _index(emit: Emitter, x: Node, indices: Sequence[Node | None]) -> Node:
    used = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if len(used) != 1 or used[0][1].dtype is DType.BOOL:
        return _index_flat(emit, x, used)
    axis, index = used[0]
    return emit.add("gather", x, _not_negative(emit, index, x.shape[axis]), axis=axis)


def _index_flat(emit: Emitter, x: Node, used: Sequence[tuple[int, Node]]) -> Node:
    """Several index tensors on neighbouring axes become one index of the flattened axes.

    With gaps between them, PyTorch puts the indexed dims first; so do we.
    """
    axes = [axis for axis, _ in used]
    if any(index.dtype is DType.BOOL for _, index in used):
        raise Unlowered("the size of the result depends on the data: indexing with a mask")
    rank = emit.result.ndim - (x.tensor.rank - len(axes))
    if axes != list(range(axes[0], axes[0] + len(axes))):
        rest = [axis for axis in range(x.tensor.rank) if axis not in axes]
        x = emit.add("permute", x, order=(*axes, *rest))
        used = [(place, index) for place, (_, index) in enumerate(used)]
        axes = list(range(len(axes)))
    flat = flat_index(emit, x, used, emit.shape[axes[0] : axes[0] + rank])
    merged = product(tuple(x.shape[a] for a in axes))
    source = emit.reshape(x, (*x.shape[: axes[0]], merged, *x.shape[axes[-1] + 1 :]))
    return emit.add("gather", source, flat, axis=axes[0])


def flat_index(
    emit: Emitter, x: Node, used: Sequence[tuple[int, Node]], shape: Sequence[Dim]
) -> Node:
    """The row-major number, in the indexed axes, of each place that index tensors name."""
    flat = emit.constant(0, DType.INT64, shape)
    for axis, index in used:
        size = x.shape[axis]
        part = emit.broadcast(_not_negative(emit, index, size), shape)
        flat = emit.add("add", emit.scalar("mul", flat, size), part)
    return flat


def _take_along(emit: Emitter, x: Node, axis: int, index: Node, *_: Any) -> Node:
    x, index = (emit.reshape(v, v.shape or (1,)) for v in (x, index))
    axis %= x.tensor.rank
    for other, (have, want) in enumerate(zip(x.shape, index.shape, strict=True)):
        if other != axis and have != want:
            x = emit.add("slice", x, axis=other, start=0, stop=want, step=1)
    return emit.reshape(emit.add("take_along", x, index, axis=axis), emit.shape)


def top_k(
    emit: Emitter, x: Node, k: int, axis: int = -1, largest: bool = True, *_: Any
) -> tuple[Node, ...]:
    """k times: find the largest, then hide it. Right for the few choices of a router."""
    axis %= x.tensor.rank
    hidden = emit.constant(LOWEST.get(x.dtype, float("-inf")), x.dtype, x.shape)
    rest = x if largest else _reversed_order(emit, x)
    rest = _ranked(emit, rest, nan_is_first=largest) if x.dtype.is_floating else rest
    positions = emit.add("iota", size=x.shape[axis], dtype=DType.INT64)
    along = emit.reshape(positions, tuple(d if i == axis else 1 for i, d in enumerate(x.shape)))
    here = emit.broadcast(along, x.shape)
    places: list[Node] = []
    for step in range(k):
        places.append(emit.reduce(rest, (axis,), "argmax", keep=True))
        if step + 1 < k:
            taken = emit.add("eq", here, emit.broadcast(places[-1], x.shape))
            rest = emit.add("where", taken, hidden, rest)
    found = places[0] if k == 1 else emit.add("concat", *places, axis=axis)
    return emit.add("take_along", x, found, axis=axis), found


def _ranked(emit: Emitter, x: Node, *, nan_is_first: bool) -> Node:
    """Numbers in the order of `x`, NaN before or behind all of them, and none as low as -inf."""
    kind = torch.finfo(to_torch_dtype(x.dtype))
    lowest = kind.min if nan_is_first else kind.min * (1 - kind.eps / 2)  # room for NaN below it
    ranked = emit.scalar("min", emit.scalar("max", x, lowest), kind.max)
    of_nan = emit.constant(math.inf if nan_is_first else kind.min, x.dtype, x.shape)
    return emit.add("where", emit.add("ne", x, x), of_nan, ranked)


RULES: Mapping[str, Rule] = {
    "aten.sum.default": _sum_all,
    "aten.sum.dim_IntList": _sum,
    "aten.mean.default": _mean_all,
    "aten.mean.dim": _mean,
    "aten.var.correction": _variance_correction,
    "aten.amax.default": _extreme("max"),
    "aten.amin.default": _extreme("min"),
    "aten.max.default": _extreme("max"),
    "aten.min.default": _extreme("min"),
    "aten.max.dim": _extreme_with_index("max"),
    "aten.min.dim": _extreme_with_index("min"),
    "aten.argmax.default": _argument(smallest=False),
    "aten.argmin.default": _argument(smallest=True),
    **{f"aten.any.{overload}": _any for overload in ("default", "dim", "dims")},
    **{f"aten.all.{overload}": _all for overload in ("default", "dim", "dims")},
    **{f"aten.prod.{overload}": _product for overload in ("default", "dim_int")},
    "aten.cumsum.default": _cumsum,
    **{f"aten.{name}": _softmax for name in ("softmax.int", "_softmax.default")},
    **{f"aten.{name}": _log_softmax for name in ("log_softmax.int", "_log_softmax.default")},
    "aten.linalg_vector_norm.default": _vector_norm,
    "aten.embedding.default": _embedding,
    "aten.index_select.default": _index_select,
    "aten.index.Tensor": _index,
    "aten.gather.default": _take_along,
}
"""Rules by the name of the ATen overload."""
