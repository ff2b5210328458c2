"""ATen operations about order: sorting, the largest few, searching, running products.

Each is said with comparisons of all pairs and a reduction, so that every target has it. The price
is small next to a model as long as an axis has a few thousand places.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import LOWEST, Unlowered, top_k
from banyan.compiler.capture.emitter import Emitter, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.reductions import neutral

LONGEST_SORT = 16384
"""Places of a sorted axis beyond which comparing all pairs is unreasonable."""
MOST_ROUNDS = 64
"""Results of topk up to which the largest is taken that often; more of them are a sort."""


def last_axis(emit: Emitter, x: Node, axis: int) -> Node:
    """`axis` and the last axis change places; does its own undoing."""
    order = list(range(x.tensor.rank))
    order[axis], order[-1] = order[-1], order[axis]
    return x if axis == x.tensor.rank - 1 else emit.add("permute", x, order=tuple(order))


def pairs(emit: Emitter, x: Node, count: Dim, *, rows: bool) -> Node:
    """[..., n] as [..., count, n] (along rows) or [..., n, count] (along columns)."""
    *lead, size = x.shape
    grown = emit.reshape(x, (*lead, 1, size) if rows else (*lead, size, 1))
    return emit.broadcast(grown, (*lead, count, size) if rows else (*lead, size, count))


def numbers(emit: Emitter, shape: Sequence[Dim], axis: int) -> Node:
    """The number of each place along one axis, in a tensor of `shape`."""
    plain = emit.add("iota", size=shape[axis], dtype=DType.INT64)
    lying = tuple(d if i == axis else 1 for i, d in enumerate(shape))
    return emit.broadcast(emit.reshape(plain, lying), tuple(shape))


def first_places(emit: Emitter, x: Node, shape: Sequence[Dim]) -> Node:
    """The first places of each axis."""
    for axis, stop in enumerate(shape):
        if x.shape[axis] != stop:
            x = emit.add("slice", x, axis=axis, start=0, stop=stop, step=1)
    return x


def sorted_order(emit: Emitter, x: Node, *, descending: bool) -> Node:
    """The places of the last axis in sorted order; equal values keep theirs, NaN is the largest."""
    size = x.shape[-1]
    if isinstance(size, int) and size > LONGEST_SORT:
        raise Unlowered(f"sorting more than {LONGEST_SORT} values")
    if x.dtype is DType.BOOL:
        x = emit.cast(x, DType.INT32)
    own, other = (pairs(emit, x, size, rows=rows) for rows in (False, True))
    shape = own.shape
    before = emit.add("gt" if descending else "lt", other, own)
    tied = emit.add("eq", other, own)
    if x.dtype.is_floating:
        own_nan, other_nan = emit.add("ne", own, own), emit.add("ne", other, other)
        ahead, behind = (other_nan, own_nan) if descending else (own_nan, other_nan)
        before = emit.add("or", before, emit.add("and", ahead, emit.add("not", behind)))
        tied = emit.add("or", tied, emit.add("and", own_nan, other_nan))
    last = len(shape) - 1
    earlier = emit.add("lt", numbers(emit, shape, last), numbers(emit, shape, last - 1))
    wins = emit.add("or", before, emit.add("and", tied, earlier))
    ranks = emit.reduce(emit.cast(wins, DType.INT64), (last,), "sum")
    # The place whose rank is r stands at r.
    found = emit.add("eq", pairs(emit, ranks, size, rows=True), numbers(emit, shape, last - 1))
    places = emit.add("mul", emit.cast(found, DType.INT64), numbers(emit, shape, last))
    return emit.reduce(places, (last,), "sum")


def _sort(emit: Emitter, x: Node, axis: int = -1, descending: bool = False) -> tuple[Node, Node]:
    if x.tensor.rank == 0:
        return x, emit.constant(0, DType.INT64)
    axis %= x.tensor.rank
    moved = last_axis(emit, x, axis)
    order = sorted_order(emit, moved, descending=descending)
    values = emit.add("take_along", moved, order, axis=x.tensor.rank - 1)
    return last_axis(emit, values, axis), last_axis(emit, order, axis)


def _stable_sort(
    emit: Emitter, x: Node, _: Any, axis: int = -1, descending: bool = False
) -> tuple[Node, Node]:
    return _sort(emit, x, axis, descending)


def _top_k(
    emit: Emitter, x: Node, k: int, axis: int = -1, largest: bool = True, *rest: Any
) -> tuple[Node, ...]:
    few = isinstance(k, int) and k <= MOST_ROUNDS and x.tensor.rank > 0
    if few and (x.dtype in LOWEST or x.dtype.is_floating):
        return top_k(emit, x, k, axis, largest)
    ordered = _sort(emit, x, axis, descending=largest)
    return tuple(first_places(emit, part, emit.shape) for part in ordered)


def _running(kind: str) -> Rule:
    """A running product or extreme: every place looks at those up to it."""

    def rule(emit: Emitter, x: Node, axis: int, *_: Any) -> Any:
        if x.tensor.rank == 0:
            return emit.cast(x, emit.dtype)
        wide = DType.FLOAT32 if emit.dtype.is_floating else emit.dtype
        axis %= x.tensor.rank
        moved = last_axis(emit, emit.cast(x, wide), axis)
        seen = pairs(emit, moved, moved.shape[-1], rows=True)
        last = seen.tensor.rank - 1
        past = emit.add("le", numbers(emit, seen.shape, last), numbers(emit, seen.shape, last - 1))
        start = emit.constant(neutral(kind, wide), wide, seen.shape)
        kept = emit.add("where", past, seen, start)
        return emit.cast(last_axis(emit, emit.reduce(kept, (last,), kind), axis), emit.dtype)

    return rule


def _search(
    emit: Emitter, borders: Node, values: Node, right: bool, strict_side: str | None = None
) -> Node:
    """How many borders come before each value."""
    if borders.dtype is not values.dtype:
        raise Unlowered("searching among another element type")
    if borders.tensor.rank == 1:
        shape = (*values.shape, borders.shape[0])
        asked = emit.broadcast(emit.reshape(values, (*values.shape, 1)), shape)
        known = emit.broadcast(borders, shape)
    else:
        asked = pairs(emit, values, borders.shape[-1], rows=False)
        known = pairs(emit, borders, values.shape[-1], rows=True)
    before = emit.add("le" if right or strict_side == "right" else "lt", known, asked)
    if values.dtype.is_floating:  # NaN stands behind every border
        before = emit.add("or", before, emit.add("ne", asked, asked))
    counts = emit.reduce(emit.cast(before, DType.INT64), (asked.tensor.rank - 1,), "sum")
    return emit.cast(counts, emit.dtype)


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
        borders = emit.add("take_along", borders, sorter, axis=borders.tensor.rank - 1)
    return _search(emit, borders, values, right, side)


RULES: Mapping[str, Rule] = {
    "aten.sort.default": _sort,
    "aten.sort.stable": _stable_sort,
    "aten.topk.default": _top_k,
    "aten.cumprod.default": _running("prod"),
    "aten.bucketize.Tensor": _bucketize,
    "aten.searchsorted.Tensor": _searchsorted,
}
"""Rules by the name of the ATen overload."""
