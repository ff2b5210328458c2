"""ATen operations about order: sorting, the largest few, searching, running products.

Each is said with comparisons of all pairs and a reduction, so that every target has it. The price
is small next to a model as long as an axis has a few thousand places.
"""

from collections.abc import Mapping
from typing import Any

from banyan.compiler.capture.aten_reduce import LOWEST, Unlowered, numbers, top_k
from banyan.compiler.capture.emitter import Emitter, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType

LONGEST_SORT = 16384
"""Places of a sorted axis beyond which comparing all pairs is unreasonable."""
MOST_ROUNDS = 64
"""Results of topk up to which the largest is taken that often; more of them are a sort."""


def last_axis(x: Node, axis: int) -> Node:
    """`axis` and the last axis change places; does its own undoing."""
    order = list(range(x.tensor.rank))
    order[axis], order[-1] = order[-1], order[axis]
    return x.permute(order)


def pairs(x: Node, count: Dim, *, rows: bool) -> Node:
    """[..., n] as [..., count, n] (along rows) or [..., n, count] (along columns)."""
    *lead, size = x.shape
    grown = x.reshape((*lead, 1, size) if rows else (*lead, size, 1))
    return grown.expand((*lead, count, size) if rows else (*lead, size, count))


def sorted_order(emit: Emitter, x: Node, *, descending: bool) -> Node:
    """The places of the last axis in sorted order; equal values keep theirs, NaN is the largest."""
    size = x.shape[-1]
    if isinstance(size, int) and size > LONGEST_SORT:
        raise Unlowered(f"sorting more than {LONGEST_SORT} values")
    if x.dtype is DType.BOOL:
        x = x.cast(DType.INT32)
    own, other = (pairs(x, size, rows=rows) for rows in (False, True))
    before = other > own if descending else other < own
    tied = other.equals(own)
    if x.dtype.is_floating:
        own_nan, other_nan = own.differs(own), other.differs(other)
        ahead, behind = (other_nan, own_nan) if descending else (own_nan, other_nan)
        before = before | (ahead & ~behind)
        tied = tied | (own_nan & other_nan)
    last = own.tensor.rank - 1
    columns, rows = (numbers(emit, own.shape, axis) for axis in (last, last - 1))
    wins = before | (tied & (columns < rows))
    ranks = wins.cast(DType.INT64).reduce("sum", (last,))
    # The place whose rank is r stands at r.
    found = pairs(ranks, size, rows=True).equals(rows)
    return (found.cast(DType.INT64) * columns).reduce("sum", (last,))


def _sort(emit: Emitter, x: Node, axis: int = -1, descending: bool = False) -> tuple[Node, Node]:
    if x.tensor.rank == 0:
        return x, emit.constant(0, DType.INT64)
    axis %= x.tensor.rank
    moved = last_axis(x, axis)
    order = sorted_order(emit, moved, descending=descending)
    values = moved.apply("take_along", order, axis=x.tensor.rank - 1)
    return last_axis(values, axis), last_axis(order, axis)


def _stable_sort(
    emit: Emitter, x: Node, _: Any, axis: int = -1, descending: bool = False
) -> tuple[Node, Node]:
    return _sort(emit, x, axis, descending)


def _top_k(
    emit: Emitter, x: Node, k: int, axis: int = -1, largest: bool = True, *_: Any
) -> tuple[Node, ...]:
    few = isinstance(k, int) and k <= MOST_ROUNDS and x.tensor.rank > 0
    if few and (x.dtype in LOWEST or x.dtype.is_floating):
        return top_k(emit, x, k, axis, largest)
    ordered = _sort(emit, x, axis, descending=largest)
    return tuple(part.first_places(emit.shape) for part in ordered)


def _running_product(emit: Emitter, x: Node, axis: int, *_: Any) -> Node:
    """Every place looks at those up to it."""
    if x.tensor.rank == 0:
        return x.cast(emit.dtype)
    wide = DType.FLOAT32 if emit.dtype.is_floating else emit.dtype
    axis %= x.tensor.rank
    moved = last_axis(x.cast(wide), axis)
    seen = pairs(moved, moved.shape[-1], rows=True)
    last = seen.tensor.rank - 1
    past = numbers(emit, seen.shape, last) <= numbers(emit, seen.shape, last - 1)
    return last_axis(past.choose(seen, 1).reduce("prod", (last,)), axis).cast(emit.dtype)


def _search(
    emit: Emitter, borders: Node, values: Node, right: bool, strict_side: str | None = None
) -> Node:
    """How many borders come before each value."""
    if borders.dtype is not values.dtype:
        raise Unlowered("searching among another element type")
    asked = values.reshape((*values.shape, 1))
    known = borders
    if borders.tensor.rank > 1:
        known = borders.reshape((*borders.shape[:-1], 1, borders.shape[-1]))
    before = known <= asked if right or strict_side == "right" else known < asked
    if values.dtype.is_floating:  # NaN stands behind every border
        before = before | asked.differs(asked)
    return before.cast(DType.INT64).reduce("sum", (before.tensor.rank - 1,)).cast(emit.dtype)


def _bucketize(
    emit: Emitter, values: Node, borders: Node, out_int32: bool = False, right: bool = False
) -> Node:
    return _search(emit, borders, values, right)


def _searchsorted(
    emit: Emitter,
    borders: Node,
    values: Node,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Node | None = None,
) -> Node:
    if sorter is not None:
        borders = borders.apply("take_along", sorter, axis=borders.tensor.rank - 1)
    return _search(emit, borders, values, right, side)


RULES: Mapping[str, Rule] = {
    "aten.sort.default": _sort,
    "aten.sort.stable": _stable_sort,
    "aten.topk.default": _top_k,
    "aten.cumprod.default": _running_product,
    "aten.bucketize.Tensor": _bucketize,
    "aten.searchsorted.Tensor": _searchsorted,
}
"""Rules by the name of the ATen overload."""
