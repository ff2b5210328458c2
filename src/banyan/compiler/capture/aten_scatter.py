"""ATen operations that write or count at places that the data name."""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import Unlowered, flat_index, numbers
from banyan.compiler.capture.aten_shape import clipped
from banyan.compiler.capture.emitter import Emitter, Number, Rule
from banyan.compiler.ir.graph import Node, Operand
from banyan.compiler.ir.symbols import Dim, common_shape, product
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.reductions import neutral


def _scatter(
    emit: Emitter, x: Node, axis: int, index: Node, source: Operand, kind: str = "set"
) -> Node:
    """`x` with source[.., i, ..] at index[.., i, ..], in the order of the entries."""
    if index.tensor.num_elements == 0:
        return x
    whole, places = (node.reshape(node.shape or (1,)) for node in (x, index))
    if isinstance(source, Node):
        source = source.reshape(source.shape or (1,)).first_places(places.shape)
    given = emit.operand(source, x.dtype, places.shape)
    axis %= whole.tensor.rank
    for other, size in enumerate(whole.shape):
        if other != axis:  # a place outside the tensor is not written
            places, given = _grown(places, other, size, -1), _grown(given, other, size, 0)
    target, places, rows = (_around(node, axis) for node in (whole, places, given))
    return target.apply("scatter", places, rows, kind=kind).reshape(x.shape)


def _grown(x: Node, axis: int, size: Dim, value: Number) -> Node:
    """Filled up with `value` behind the last place of an axis."""
    if x.shape[axis] == size:
        return x
    return x.apply("pad", axis=axis, low=0, high=size - x.shape[axis], value=value)


def _around(x: Node, axis: int) -> Node:
    """As [what comes before the axis, the axis, what comes behind]."""
    return x.reshape((product(x.shape[:axis]), x.shape[axis], product(x.shape[axis + 1 :])))


_KINDS = {
    "sum": ("add", "sum"),
    "mean": ("add", "sum"),
    "prod": ("prod", "prod"),
    "amax": ("amax", "max"),
    "amin": ("amin", "min"),
}
"""The kind of `scatter`, and of the reduction whose neutral number it shares."""


def _scatter_reduce(
    emit: Emitter,
    x: Node,
    axis: int,
    index: Node,
    source: Node,
    kind: str,
    include_self: bool = True,
) -> Node:
    wide = DType.FLOAT32 if x.dtype.is_floating else x.dtype
    joining, reduction = _KINDS[kind]
    own = x.cast(wide)
    if not include_self:
        own = _scatter(emit, own, axis, index, neutral(reduction, wide))
    result = _scatter(emit, own, axis, index, source.cast(wide), joining)
    if kind == "mean":
        start = emit.constant(int(include_self), DType.INT64, x.shape)
        count = _scatter(emit, start, axis, index, 1, "add").binary("max", 1).cast(wide)
        result = result / count if wide.is_floating else result // count
    return result.cast(x.dtype)


def _scatter_add(emit: Emitter, x: Node, axis: int, index: Node, source: Node) -> Node:
    return _scatter_reduce(emit, x, axis, index, source, "sum")


def _embedding_backward(
    emit: Emitter, gradient: Node, index: Node, rows: Dim, padding: int, by_frequency: bool
) -> Node:
    """The sum of the gradients of each row of the table, in the order of their use."""
    if by_frequency:
        raise Unlowered("gradients of an embedding divided by how often a row is used")
    places = index.cast(DType.INT64).reshape((index.tensor.num_elements,))
    places = places.equals(padding).choose(-1, places)
    width = gradient.shape[-1]
    table = emit.constant(0.0, DType.FLOAT32, (1, rows, width))
    given = gradient.cast(DType.FLOAT32).reshape((1, *places.shape, width))
    total = table.apply("scatter", places, given, kind="add")
    return total.reshape((rows, width)).cast(emit.dtype)


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
    has_mask = any(index.dtype is DType.BOOL for _, index in used)
    if axes != list(range(first, first + len(axes))) or has_mask:
        raise Unlowered("index_put with gaps between the indexed axes or a mask beside an index")
    shape = common_shape([index.shape for _, index in used])
    flat = flat_index(emit, x, used, shape)
    before, after = x.shape[:first], x.shape[first + len(axes) :]
    merged, number = product(x.shape[first : first + len(axes)]), product(tuple(shape))
    given = values.cast(x.dtype).expand((*before, *shape, *after))
    rows = given.reshape((product(before), number, product(after)))
    target = x.reshape((product(before), merged, product(after)))
    wide = DType.FLOAT32 if accumulate and x.dtype.is_floating else x.dtype
    written = target.cast(wide).apply(
        "scatter", flat.reshape((number,)), rows.cast(wide), kind="add" if accumulate else "set"
    )
    return written.cast(x.dtype).reshape(x.shape)


def _put_where(x: Node, mask: tuple[int, Node], values: Node, accumulate: bool) -> Node:
    axis, flags = mask
    if product(values.shape) != 1:
        raise Unlowered("index_put of several values at a mask")
    rank = x.tensor.rank - flags.tensor.rank - axis
    new = values.cast(x.dtype).reshape(()).expand(x.shape)
    return flags.reshape((*flags.shape, *(1,) * rank)).choose(x + new if accumulate else new, x)


def _histogram(emit: Emitter, x: Node, bins: int, low: Number, high: Number) -> Node:
    """Counts of `bins` equal parts of [low, high]; the last includes its end."""
    if low == high or x.dtype is not DType.FLOAT32:
        raise Unlowered("histc over the range of the data, or not of float32")
    flat = x.reshape((x.tensor.num_elements,))
    part = ((flat - low) * bins / (high - low)).apply("floor").binary("min", bins - 1)
    part = ((flat >= low) & (flat <= high)).choose(part, -1.0)
    ones = emit.constant(1, DType.INT64, (1, *flat.shape, 1))
    zeros = emit.constant(0, DType.INT64, (1, bins, 1))
    counts = zeros.apply("scatter", part.cast(DType.INT64), ones, kind="add")
    return counts.reshape((bins,)).cast(emit.dtype)


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
    if count == 0:
        return x
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
    "aten.embedding_dense_backward.default": _embedding_backward,
    "aten.slice_scatter.default": _slice_scatter,
    "aten.select_scatter.default": _select_scatter,
}
"""Rules by the name of the ATen overload."""
