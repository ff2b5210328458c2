"""ATen operations that write or count at places that the data name.

As in `aten_order`, each is said with comparisons of all pairs of places and a reduction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_order import last_axis, pairs
from banyan.compiler.capture.aten_reduce import Unlowered, extreme_or_nan, flat_index, numbers
from banyan.compiler.capture.aten_shape import clipped
from banyan.compiler.capture.emitter import Emitter, Number, Rule
from banyan.compiler.ir.graph import Node, Operand
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.reductions import neutral


def _hits(emit: Emitter, index: Node, count: Dim) -> Node:
    """[..., n] -> bool [..., count, n]: does entry i go to place j?"""
    wide = pairs(index.cast(DType.INT64), count, rows=True)
    return wide.equals(numbers(emit, wide.shape, wide.tensor.rank - 2))


def _last_writer(emit: Emitter, hits: Node) -> tuple[Node, Node]:
    """One more than the number of the last entry that goes to each place, 0 where none does; and
    that number, 0 where there is none.
    """
    axis = hits.tensor.rank - 1
    if hits.shape[axis] == 0:
        writer = emit.constant(0, DType.INT64, hits.shape[:axis])
    else:
        entries = numbers(emit, hits.shape, axis) + 1
        writer = (hits.cast(DType.INT64) * entries).reduce("max", (axis,))
    return writer, (writer - 1).binary("max", 0)


def _lines(axis: int, *nodes: Node) -> list[Node]:
    """The nodes, of at least one dim, with `axis` as their last."""
    return [last_axis(node.reshape(node.shape or (1,)), axis) for node in nodes]


def _scatter(emit: Emitter, x: Node, axis: int, index: Node, source: Operand) -> Node:
    """`x` with source[.., i, ..] at index[.., i, ..]; the last of equal places wins."""
    if index.tensor.num_elements == 0:
        return x
    axis %= max(1, x.tensor.rank)
    moved, places = _lines(axis, x, index)
    writer, chosen = _last_writer(emit, _hits(emit, places, moved.shape[-1]))
    values = source
    if isinstance(source, Node):
        (given,) = _lines(axis, source)
        given = given.first_places(places.shape)
        values = given.apply("take_along", chosen, axis=moved.tensor.rank - 1)
        values = _grown(values, moved.shape)
    result = (_grown(writer, moved.shape) > 0).choose(values, moved)
    return last_axis(result, axis).reshape(x.shape)


def _grown(x: Node, shape: Sequence[Dim], value: Number = 0) -> Node:
    """Filled up with `value` behind the last place of each axis."""
    for axis, want in enumerate(shape):
        if x.shape[axis] != want:
            x = x.apply("pad", axis=axis, low=0, high=want - x.shape[axis], value=value)
    return x


_KINDS = {"sum": "sum", "prod": "prod", "amax": "max", "amin": "min", "mean": "sum"}


def _scatter_reduce(
    emit: Emitter,
    x: Node,
    axis: int,
    index: Node,
    source: Node,
    kind: str,
    include_self: bool = True,
) -> Node:
    if index.tensor.num_elements == 0:
        return x
    axis %= max(1, x.tensor.rank)
    own, places, given = _lines(axis, x, index, source)
    wide = DType.FLOAT32 if x.dtype.is_floating else x.dtype
    hits = _hits(emit, places, own.shape[-1])
    values = given.first_places(places.shape).cast(wide)
    nothing = neutral(_KINDS[kind], wide)
    every = hits.choose(pairs(values, own.shape[-1], rows=True), nothing)
    shape = (*own.shape, places.shape[-1])
    every, counted = _grown(every, shape, nothing), _grown(hits.cast(DType.INT64), shape)
    result = _joined(own.cast(wide), every, counted, kind, include_self)
    return last_axis(result.cast(x.dtype), axis).reshape(x.shape)


def _joined(own: Node, every: Node, hits: Node, kind: str, include_self: bool) -> Node:
    """What is at each place [...] and the values [..., n] that go there, as one value."""
    last = own.tensor.rank
    count = hits.reduce("sum", (last,))
    if not include_self:
        own = (count > 0).choose(neutral(_KINDS[kind], own.dtype), own)
    entries = own.reshape((*own.shape, 1)).apply("concat", every, axis=last)
    if kind in ("amax", "amin"):
        return extreme_or_nan(entries, (last,), _KINDS[kind], keep=False)
    total = entries.reduce(_KINDS[kind], (last,))
    if kind != "mean":
        return total
    number = (count + int(include_self)).binary("max", 1).cast(own.dtype)
    return total / number if own.dtype.is_floating else total // number


def _scatter_add(emit: Emitter, x: Node, axis: int, index: Node, source: Node) -> Node:
    return _scatter_reduce(emit, x, axis, index, source, "sum")


def _index_put(
    emit: Emitter,
    x: Node,
    indices: Sequence[Node | None],
    values: Node,
    accumulate: bool = False,
    *_: Any,
) -> Node:
    used = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if len(used) == 1 and used[0][1].dtype is DType.BOOL:
        return _put_where(x, used[0], values, accumulate)
    first = used[0][0]
    axes = [axis for axis, _ in used]
    if axes != list(range(first, first + len(axes))) or used[0][1].dtype is DType.BOOL:
        raise Unlowered("index_put with gaps between the indexed axes or with several masks")
    shape = _common_shape([index for _, index in used])
    flat = flat_index(emit, x, used, shape)
    before, after = x.shape[:first], x.shape[first + len(axes) :]
    merged, number = product(x.shape[first : first + len(axes)]), product(tuple(shape))
    given = values.cast(x.dtype).expand((*before, *shape, *after))
    rows = given.reshape((product(before), number, product(after)))
    target = x.reshape((product(before), merged, product(after)))
    if accumulate:
        index = flat.reshape((1, number, 1)).expand(rows.shape)
        return _scatter_add(emit, target, 1, index, rows).reshape(x.shape)
    writer, chosen = _last_writer(emit, _hits(emit, flat.reshape((number,)), merged))
    new = rows.apply("gather", chosen, axis=1)
    return (writer > 0).reshape((1, merged, 1)).choose(new, target).reshape(x.shape)


def _common_shape(parts: Sequence[Node]) -> tuple[Dim, ...]:
    """The shape that all parts broadcast to."""
    rank = max(part.tensor.rank for part in parts)
    grown = [(*(1,) * (rank - part.tensor.rank), *part.shape) for part in parts]
    return tuple(next((d for d in dims if d != 1), 1) for dims in zip(*grown, strict=True))


def _put_where(x: Node, mask: tuple[int, Node], values: Node, accumulate: bool) -> Node:
    axis, flags = mask
    if product(values.shape) != 1 or axis:
        raise Unlowered("index_put of several values at a mask")
    rank = x.tensor.rank - flags.tensor.rank
    new = values.cast(x.dtype).reshape(()).expand(x.shape)
    return flags.reshape((*flags.shape, *(1,) * rank)).choose(x + new if accumulate else new, x)


def _histogram(emit: Emitter, x: Node, bins: int, low: Number, high: Number) -> Node:
    """Counts of `bins` equal parts of [low, high]; the last includes its end."""
    if low == high or x.dtype is not DType.FLOAT32:
        raise Unlowered("histc over the range of the data, or not of float32")
    flat = x.reshape((x.tensor.num_elements,))
    part = ((flat - low) * bins / (high - low)).apply("floor").binary("min", bins - 1)
    part = ((flat >= low) & (flat <= high)).choose(part, -1.0)
    hits = _hits(emit, part, bins)
    return hits.cast(DType.INT64).reduce("sum", (1,)).cast(emit.dtype)


def _slice_scatter(
    emit: Emitter,
    x: Node,
    source: Node,
    axis: int = 0,
    start: Any = None,
    stop: Any = None,
    step: int = 1,
) -> Node:
    """`x` with `source` in the place of a slice."""
    axis %= x.tensor.rank
    size, count = x.shape[axis], source.shape[axis]
    first = clipped(start, size, 0)
    source = source.cast(x.dtype)
    if count == size and step == 1:
        return source
    from_front = numbers(emit, x.shape, axis) - first
    if step == 1:
        new = source.apply("pad", axis=axis, low=first, high=size - first - count, value=0)
        inside = from_front < count
    else:
        place = ((emit.iota(size) - first) // step).binary("max", 0).binary("min", count - 1)
        new = source.apply("gather", place, axis=axis)
        inside = (from_front % step).equals(0) & (from_front < count * step)
    return (inside & (from_front >= 0)).choose(new, x)


def _select_scatter(emit: Emitter, x: Node, source: Node, axis: int, index: int) -> Node:
    axis %= x.tensor.rank
    first = index if not isinstance(index, int) or index >= 0 else x.shape[axis] + index
    row = source.reshape((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    return _slice_scatter(emit, x, row, axis, first, first + 1)


RULES: Mapping[str, Rule] = {
    "aten.scatter.value": _scatter,
    "aten.scatter.src": _scatter,
    "aten.scatter_add.default": _scatter_add,
    "aten.scatter_reduce.two": _scatter_reduce,
    "aten.index_put.default": _index_put,
    "aten.histc.default": _histogram,
    "aten.slice_scatter.default": _slice_scatter,
    "aten.select_scatter.default": _select_scatter,
}
"""Rules by the name of the ATen overload."""
