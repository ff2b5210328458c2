"""ATen operations that write or count at places that the data name.

As in `aten_order`, each is said with comparisons of all pairs of places and a reduction.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_order import first_places, last_axis, numbers, pairs
from banyan.compiler.capture.aten_reduce import Unlowered, extreme_or_nan, flat_index
from banyan.compiler.capture.aten_shape import clipped
from banyan.compiler.capture.emitter import Emitter, Number, Operand, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.reductions import neutral


def _hits(emit: Emitter, index: Node, count: Dim) -> Node:
    """[..., n] -> bool [..., count, n]: does entry i go to place j?"""
    wide = pairs(emit, emit.cast(index, DType.INT64), count, rows=True)
    return emit.add("eq", wide, numbers(emit, wide.shape, wide.tensor.rank - 2))


def _last_writer(emit: Emitter, hits: Node) -> Node:
    """One more than the number of the last entry that goes to each place; 0 where none does."""
    axis = hits.tensor.rank - 1
    entries = emit.scalar("add", numbers(emit, hits.shape, axis), 1)
    marked = emit.add("mul", emit.cast(hits, DType.INT64), entries)
    if hits.shape[axis] == 0:
        return emit.constant(0, DType.INT64, hits.shape[:axis])
    return emit.reduce(marked, (axis,), "max")


def _scatter(emit: Emitter, x: Node, axis: int, index: Node, source: Operand) -> Node:
    """`x` with source[.., i, ..] at index[.., i, ..]; the last of equal places wins."""
    if index.tensor.num_elements == 0:
        return x
    rank = max(1, x.tensor.rank)
    whole, places = (emit.reshape(v, v.shape or (1,)) for v in (x, index))
    axis %= rank
    moved = last_axis(emit, whole, axis)
    places = last_axis(emit, places, axis)
    writer = _last_writer(emit, _hits(emit, places, moved.shape[-1]))
    chosen = emit.scalar("max", emit.scalar("sub", writer, 1), 0)
    if isinstance(source, Node):
        given = last_axis(emit, emit.reshape(source, source.shape or (1,)), axis)
        values = emit.add(
            "take_along", first_places(emit, given, places.shape), chosen, axis=rank - 1
        )
    else:
        values = emit.constant(source, x.dtype, writer.shape)  # type: ignore[arg-type]
    writer, values = (_grown(emit, v, moved.shape) for v in (writer, values))
    result = emit.add("where", emit.scalar("gt", writer, 0), values, moved)
    return emit.reshape(last_axis(emit, result, axis), x.shape)


def _grown(emit: Emitter, x: Node, shape: Sequence[Dim], value: Number = 0) -> Node:
    """Filled up with `value` behind the last place of each axis."""
    for axis, want in enumerate(shape):
        if x.shape[axis] != want:
            x = emit.add("pad", x, axis=axis, low=0, high=want - x.shape[axis], value=value)
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
    whole, places, given = (emit.reshape(v, v.shape or (1,)) for v in (x, index, source))
    axis %= whole.tensor.rank
    own, places, given = (last_axis(emit, v, axis) for v in (whole, places, given))
    wide = DType.FLOAT32 if x.dtype.is_floating else x.dtype
    hits = _hits(emit, places, own.shape[-1])
    values = emit.cast(first_places(emit, given, places.shape), wide)
    nothing = neutral(_KINDS[kind], wide)
    every = emit.add(
        "where",
        hits,
        pairs(emit, values, own.shape[-1], rows=True),
        emit.constant(nothing, wide, hits.shape),
    )
    shape = (*own.shape, places.shape[-1])
    result = _joined(
        emit,
        emit.cast(own, wide),
        _grown(emit, every, shape, nothing),
        _grown(emit, emit.cast(hits, DType.INT64), shape),
        kind,
        include_self,
    )
    return emit.reshape(last_axis(emit, emit.cast(result, x.dtype), axis), x.shape)


def _joined(
    emit: Emitter, own: Node, every: Node, hits: Node, kind: str, include_self: bool
) -> Node:
    """What is at each place [...] and the values [..., n] that go there, as one value."""
    last = own.tensor.rank
    count = emit.reduce(hits, (last,), "sum")
    if not include_self:
        nothing = emit.constant(neutral(_KINDS[kind], own.dtype), own.dtype, own.shape)
        own = emit.add("where", emit.scalar("gt", count, 0), nothing, own)
    entries = emit.add("concat", emit.reshape(own, (*own.shape, 1)), every, axis=last)
    if kind in ("amax", "amin"):
        return extreme_or_nan(emit, entries, (last,), _KINDS[kind], keep=False)
    total = emit.reduce(entries, (last,), _KINDS[kind])
    if kind != "mean":
        return total
    number = emit.scalar("max", emit.scalar("add", count, int(include_self)), 1)
    divide = "div" if own.dtype.is_floating else "floordiv"
    return emit.add(divide, total, emit.cast(number, own.dtype))


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
        return _put_where(emit, x, used[0], values, accumulate)
    first = used[0][0]
    axes = [axis for axis, _ in used]
    if axes != list(range(first, first + len(axes))) or used[0][1].dtype is DType.BOOL:
        raise Unlowered("index_put with gaps between the indexed axes or with several masks")
    shape = _common_shape([index for _, index in used])
    flat = flat_index(emit, x, used, shape)
    before, after = x.shape[:first], x.shape[first + len(axes) :]
    merged = product(x.shape[first : first + len(axes)])
    number = product(tuple(shape))
    given = emit.broadcast(emit.cast(values, x.dtype), (*before, *shape, *after))
    rows = emit.reshape(given, (product(before), number, product(after)))
    target = emit.reshape(x, (product(before), merged, product(after)))
    place = emit.reshape(flat, (1, number, 1))
    if accumulate:
        index = emit.broadcast(place, rows.shape)
        return emit.reshape(_scatter_add(emit, target, 1, index, rows), x.shape)
    writer = _last_writer(emit, _hits(emit, emit.reshape(flat, (number,)), merged))
    chosen = emit.scalar("max", emit.scalar("sub", writer, 1), 0)
    new = emit.add("gather", rows, chosen, axis=1)
    written = emit.reshape(emit.scalar("gt", writer, 0), (1, merged, 1))
    return emit.reshape(
        emit.add("where", emit.broadcast(written, target.shape), new, target), x.shape
    )


def _common_shape(parts: Sequence[Node]) -> tuple[Dim, ...]:
    """The shape that all parts broadcast to."""
    rank = max(part.tensor.rank for part in parts)
    grown = [(*(1,) * (rank - part.tensor.rank), *part.shape) for part in parts]
    return tuple(next((d for d in dims if d != 1), 1) for dims in zip(*grown, strict=True))


def _put_where(
    emit: Emitter, x: Node, mask: tuple[int, Node], values: Node, accumulate: bool
) -> Node:
    axis, flags = mask
    if product(values.shape) != 1 or axis:
        raise Unlowered("index_put of several values at a mask")
    rank = x.tensor.rank - flags.tensor.rank
    chosen = emit.broadcast(emit.reshape(flags, (*flags.shape, *(1,) * rank)), x.shape)
    new = emit.broadcast(emit.reshape(emit.cast(values, x.dtype), ()), x.shape)
    return emit.add("where", chosen, emit.add("add", x, new) if accumulate else new, x)


def _histogram(emit: Emitter, x: Node, bins: int, low: Number, high: Number) -> Node:
    """Counts of `bins` equal parts of [low, high]; the last includes its end."""
    if low == high or x.dtype is not DType.FLOAT32:
        raise Unlowered("histc over the range of the data, or not of float32")
    flat = emit.reshape(emit.cast(x, DType.FLOAT32), (x.tensor.num_elements,))
    scaled = emit.scalar("mul", emit.scalar("sub", flat, low), bins)
    part = emit.add("floor", emit.scalar("div", scaled, high - low))
    part = emit.scalar("min", part, float(bins - 1))
    inside = emit.add("and", emit.scalar("ge", flat, low), emit.scalar("le", flat, high))
    part = emit.add("where", inside, part, emit.constant(-1.0, DType.FLOAT32, flat.shape))
    hits = _hits(emit, part, bins)
    counts = emit.reduce(emit.cast(hits, DType.INT64), (1,), "sum")
    return emit.cast(counts, emit.dtype)


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
    if count == size and step == 1:
        return emit.cast(source, x.dtype)
    from_front = emit.scalar("sub", numbers(emit, x.shape, axis), first)
    if step == 1:
        widths = {"low": first, "high": size - first - count, "value": 0}
        new = emit.add("pad", emit.cast(source, x.dtype), axis=axis, **widths)
        inside = emit.scalar("lt", from_front, count)
    else:
        line = emit.scalar("sub", emit.add("iota", size=size, dtype=DType.INT64), first)
        place = emit.scalar("max", emit.scalar("floordiv", line, step), 0)
        place = emit.scalar("min", place, count - 1)
        new = emit.add("gather", emit.cast(source, x.dtype), place, axis=axis)
        exact = emit.scalar("eq", emit.scalar("mod", from_front, step), 0)
        inside = emit.add("and", exact, emit.scalar("lt", from_front, count * step))
    chosen = emit.add("and", inside, emit.scalar("ge", from_front, 0))
    return emit.add("where", chosen, new, x)


def _select_scatter(emit: Emitter, x: Node, source: Node, axis: int, index: int) -> Node:
    axis %= x.tensor.rank
    first = index if not isinstance(index, int) or index >= 0 else x.shape[axis] + index
    row = emit.reshape(source, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
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
