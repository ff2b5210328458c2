"""ATen operations that reduce, normalise or index."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from banyan.compiler.capture.aten_pointwise import truth
from banyan.compiler.capture.emitter import Emitter, Number, Rule, positive_axes, to_torch_dtype
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType
from banyan.foundation.errors import GraphError

LOWEST = {DType.INT64: -(2**63), DType.INT32: -(2**31)}


class Unlowered(GraphError):
    """This use of an operation has no rule; the operation stays a call to the framework."""


def _axes(x: Node, axes: Any) -> tuple[int, ...]:
    return positive_axes(axes, x.tensor.rank)


def _in_wide(emit: Emitter, x: Node, formula: Callable[[Node], Node]) -> Node:
    """Sums of 16-bit fractions are kept in float32 and rounded once."""
    wide = DType.FLOAT32 if emit.dtype.is_floating else emit.dtype
    return formula(x.cast(wide)).cast(emit.dtype)


def _sum(emit: Emitter, x: Node, axes: Any = None, keep: bool = False, *_: Any) -> Node:
    return _in_wide(emit, x, lambda w: w.reduce("sum", _axes(x, axes), keep=keep))


def _mean(emit: Emitter, x: Node, axes: Any = None, keep: bool = False, *_: Any) -> Node:
    return _in_wide(emit, x, lambda w: mean_over(w, _axes(x, axes), keep=keep))


def _of_everything(rule: Rule) -> Rule:
    return lambda emit, x, *_: rule(emit, x)


def mean_over(x: Node, axes: Sequence[int], *, keep: bool) -> Node:
    """The mean over some axes."""
    return x.reduce("sum", axes, keep=keep) / product(tuple(x.shape[a] for a in axes))


def _variance(
    emit: Emitter, x: Node, axes: Any = None, correction: Number | None = None, keep: bool = False
) -> Node:
    chosen = _axes(x, axes)

    def formula(wide: Node) -> Node:
        centred = wide - mean_over(wide, chosen, keep=True)
        total = (centred * centred).reduce("sum", chosen, keep=keep)
        # The correction may be a fraction.
        count = total.filled(product(tuple(x.shape[a] for a in chosen)))
        return total / (count - (1 if correction is None else correction)).binary("max", 0)

    return _in_wide(emit, x, formula)


def _extreme(kind: str) -> Rule:
    def rule(emit: Emitter, x: Node, axes: Any = None, keep: bool = False) -> Node:
        return extreme_or_nan(x, _axes(x, axes), kind, keep=keep)

    return rule


def extreme_or_nan(x: Node, axes: Sequence[int], kind: str, *, keep: bool) -> Node:
    """The largest or smallest; NaN where there is one, which the reduction itself passes over."""
    found = x.reduce(kind, axes, keep=keep)
    if not x.dtype.is_floating:
        return found
    return (_nan_flags(x).reduce("max", axes, keep=keep) > 0).choose(math.nan, found)


def _nan_flags(x: Node) -> Node:
    return x.differs(x).cast(DType.INT32)


def _first_extreme(x: Node, axes: Sequence[int], *, keep: bool) -> Node:
    """The place of the largest, the first of equals; that of the first NaN where there is one."""
    found = x.reduce("argmax", axes, keep=keep)
    if not x.dtype.is_floating:
        return found
    flags = _nan_flags(x)
    any_nan = flags.reduce("max", axes, keep=keep) > 0
    return any_nan.choose(flags.reduce("argmax", axes, keep=keep), found)


def _extreme_with_index(kind: str) -> Rule:
    def rule(emit: Emitter, x: Node, axis: int, keep: bool = False) -> tuple[Node, Node]:
        axes = _axes(x, axis)
        ordered = _reversed_order(x) if kind == "min" else x
        places = _first_extreme(ordered, axes, keep=keep)
        return extreme_or_nan(x, axes, kind, keep=keep), places

    return rule


def _reversed_order(x: Node) -> Node:
    """The largest becomes the smallest. Whole numbers have no negative of their lowest."""
    if x.dtype.is_floating:
        return -x
    if x.dtype is DType.BOOL:
        return ~x
    return x.binary("sub", 255 if x.dtype is DType.UINT8 else -1, reverse=True)


def _argument(kind: str) -> Rule:
    def rule(emit: Emitter, x: Node, axis: int | None = None, keep: bool = False) -> Node:
        lying = x if axis is not None else x.reshape((x.tensor.num_elements,))
        ordered = _reversed_order(lying) if kind == "min" else lying
        found = _first_extreme(ordered, _axes(lying, axis or 0), keep=keep)
        return found if axis is not None else found.reshape(emit.shape)

    return rule


def _flags(kind: str) -> Rule:
    """Does any, or every value differ from 0?"""

    def rule(emit: Emitter, x: Node, axes: Any = None, keep: bool = False) -> Node:
        # The largest of nothing is the lowest number, the smallest the highest.
        return truth(x).cast(DType.INT32).reduce(kind, _axes(x, axes), keep=keep) > 0

    return rule


def _product(emit: Emitter, x: Node, axis: Any = None, keep: bool = False, *_: Any) -> Node:
    return x.cast(emit.dtype).reduce("prod", _axes(x, axis), keep=keep)


def _cumsum(emit: Emitter, x: Node, axis: int, *_: Any) -> Node:
    if x.tensor.rank == 0:
        return x.cast(emit.dtype)
    return _in_wide(emit, x, lambda w: w.apply("cumsum", axis=axis % x.tensor.rank))


def _softmax(emit: Emitter, x: Node, axis: int, *_: Any) -> Node:
    """A row of -inf gives NaN, as in PyTorch."""
    axes = _axes(x, axis)
    wide = x.cast(DType.FLOAT32)
    grown = (wide - wide.reduce("max", axes, keep=True)).apply("exp")
    return (grown / grown.reduce("sum", axes, keep=True)).cast(emit.dtype)


def _log_softmax(emit: Emitter, x: Node, axis: int, *_: Any) -> Node:
    axes = _axes(x, axis)
    wide = x.cast(DType.FLOAT32)
    shifted = wide - wide.reduce("max", axes, keep=True)
    total = shifted.apply("exp").reduce("sum", axes, keep=True)
    return (shifted - total.apply("log")).cast(emit.dtype)


def _vector_norm(
    emit: Emitter, x: Node, order: Number = 2, axes: Any = None, keep: bool = False, *_: Any
) -> Node:
    if order not in (1, 2):
        raise Unlowered("vector norm of an order other than 1 and 2")

    def formula(wide: Node) -> Node:
        sizes = wide.apply("abs") if order == 1 else wide * wide
        total = sizes.reduce("sum", _axes(x, axes), keep=keep)
        return total if order == 1 else total.apply("sqrt")

    return _in_wide(emit, x, formula)


def _embedding(_: Emitter, weight: Node, index: Node, *__: Any) -> Node:
    return weight.apply("gather", index, axis=0)


def _not_negative(index: Node, size: Dim) -> Node:
    """Python's negative indices counted from the front."""
    wide = index.cast(DType.INT64)
    return (wide < 0).choose(wide + size, wide)


def _at_least_one_dim(*nodes: Node) -> list[Node]:
    return [node.reshape(node.shape or (1,)) for node in nodes]


def _index_select(emit: Emitter, x: Node, axis: int, index: Node) -> Node:
    x, index = _at_least_one_dim(x, index)
    return x.apply("gather", index, axis=axis % x.tensor.rank).reshape(emit.shape)


def _index(emit: Emitter, x: Node, indices: Sequence[Node | None]) -> Node:
    used = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if len(used) != 1 or used[0][1].dtype is DType.BOOL:
        return _index_flat(emit, x, used)
    axis, index = used[0]
    return x.apply("gather", _not_negative(index, x.shape[axis]), axis=axis)


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
        x = x.permute((*axes, *rest))
        used = [(place, index) for place, (_, index) in enumerate(used)]
        axes = list(range(len(axes)))
    flat = flat_index(emit, x, used, emit.shape[axes[0] : axes[0] + rank])
    merged = product(tuple(x.shape[a] for a in axes))
    source = x.reshape((*x.shape[: axes[0]], merged, *x.shape[axes[-1] + 1 :]))
    return source.apply("gather", flat, axis=axes[0])


def flat_index(
    emit: Emitter, x: Node, used: Sequence[tuple[int, Node]], shape: Sequence[Dim]
) -> Node:
    """The row-major number, in the indexed axes, of each place that index tensors name."""
    flat = emit.constant(0, DType.INT64, shape)
    for axis, index in used:
        flat = flat * x.shape[axis] + _not_negative(index, x.shape[axis])
    return flat


def _take_along(emit: Emitter, x: Node, axis: int, index: Node, *_: Any) -> Node:
    x, index = _at_least_one_dim(x, index)
    axis %= x.tensor.rank
    wanted = (x.shape[i] if i == axis else size for i, size in enumerate(index.shape))
    return x.first_places(wanted).apply("take_along", index, axis=axis).reshape(emit.shape)


def top_k(emit: Emitter, x: Node, k: int, axis: int, largest: bool) -> tuple[Node, ...]:
    """k times: find the largest, then hide it. Right for the few choices of a router."""
    axis %= x.tensor.rank
    rest = x if largest else _reversed_order(x)
    rest = _ranked(rest, nan_is_first=largest) if x.dtype.is_floating else rest
    here = numbers(emit, x.shape, axis)
    places: list[Node] = []
    for step in range(k):
        places.append(rest.reduce("argmax", (axis,), keep=True))
        if step + 1 < k:
            hidden = LOWEST.get(x.dtype, float("-inf"))
            rest = here.equals(places[-1]).choose(hidden, rest)
    found = places[0] if k == 1 else emit.add("concat", *places, axis=axis)
    return x.apply("take_along", found, axis=axis), found


def numbers(emit: Emitter, shape: Sequence[Dim], axis: int) -> Node:
    """The number of each place along one axis, in a tensor of `shape`."""
    lying = (d if i == axis else 1 for i, d in enumerate(shape))
    return emit.iota(shape[axis]).reshape(lying).expand(shape)


def _ranked(x: Node, *, nan_is_first: bool) -> Node:
    """Numbers in the order of `x`, NaN before or behind all of them, and none as low as -inf."""
    kind = torch.finfo(to_torch_dtype(x.dtype))
    lowest = kind.min if nan_is_first else kind.min * (1 - kind.eps / 2)  # room for NaN below it
    ranked = x.binary("max", lowest).binary("min", kind.max)
    return x.differs(x).choose(math.inf if nan_is_first else kind.min, ranked)


RULES: Mapping[str, Rule] = {
    "aten.sum.default": _of_everything(_sum),
    "aten.sum.dim_IntList": _sum,
    "aten.mean.default": _of_everything(_mean),
    "aten.mean.dim": _mean,
    "aten.var.correction": _variance,
    "aten.amax.default": _extreme("max"),
    "aten.amin.default": _extreme("min"),
    "aten.max.default": _extreme("max"),
    "aten.min.default": _extreme("min"),
    "aten.max.dim": _extreme_with_index("max"),
    "aten.min.dim": _extreme_with_index("min"),
    "aten.argmax.default": _argument("max"),
    "aten.argmin.default": _argument("min"),
    **{f"aten.any.{overload}": _flags("max") for overload in ("default", "dim", "dims")},
    **{f"aten.all.{overload}": _flags("min") for overload in ("default", "dim", "dims")},
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
