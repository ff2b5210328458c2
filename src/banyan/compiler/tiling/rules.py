"""How shape, index, reduce and contract operations are computed on a tile."""

from collections.abc import Mapping
from typing import Any

from banyan.compiler.ir.attributes import integers
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.operations import PANEL_COLUMNS, POINTWISE
from banyan.compiler.ir.quantized import BLOCK_COLUMNS
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.contractions import contract
from banyan.compiler.tiling.indices import known
from banyan.compiler.tiling.reductions import cumsum, reduce
from banyan.compiler.tiling.reshaping import through_reshape
from banyan.compiler.tiling.windows import (
    At,
    CannotPull,
    Each,
    Entry,
    MustCut,
    Span,
    Window,
    entry_for,
    index_of,
    is_whole,
    labels,
    tile_shape,
    whole,
)
from banyan.compiler.tiling.writer import TileRule, Writer


def _attrs(node: Node) -> dict[str, Any]:
    return dict(node.attrs)


def _constant(writer: Writer, node: Node, window: Window) -> Node:
    return writer.builder.add("constant", (), **{**_attrs(node), "space": "tile"})


def _size(writer: Writer, node: Node, window: Window) -> Node:
    return writer.builder.add("size", dim=_attrs(node)["dim"], space="tile")


def _iota(writer: Writer, node: Node, window: Window) -> Node:
    (entry,) = window
    return writer.positions(entry).cast(node.dtype)


def _expand(writer: Writer, node: Node, window: Window) -> Node:
    source = node.args[0]
    missing = node.tensor.rank - source.tensor.rank
    zero = At(writer.indices.number(0))
    triples = zip(window[missing:], source.shape, node.shape[missing:], strict=True)
    inner = tuple(entry if have == want else zero for entry, have, want in triples)
    names = {axis: axis + missing for axis in range(len(inner))}
    return writer.aligned(writer.tile(source, inner), inner, window, names)


def _reshape(writer: Writer, node: Node, window: Window) -> Node:
    source = node.args[0]
    inner = through_reshape(writer.indices, window, node.shape, source.shape)
    if inner is None:
        return writer.by_lanes(node, window)
    tile, shape = writer.tile(source, inner), tile_shape(window)
    spread = "each" in labels(window) and "each" not in labels(inner)
    return tile.expand(shape) if spread else tile.reshape(shape)


def _permute(writer: Writer, node: Node, window: Window) -> Node:
    order = integers(node, "order")
    places = [order.index(axis) for axis in range(len(order))]
    inner = tuple(window[place] for place in places)
    return writer.aligned(writer.tile(node.args[0], inner), inner, window, dict(enumerate(places)))


def _replaced(window: Window, axis: int, entry: Entry) -> Window:
    return (*window[:axis], entry, *window[axis + 1 :])


def _slice(writer: Writer, node: Node, window: Window) -> Node:
    attrs = _attrs(node)
    axis, start, step = attrs["axis"], attrs["start"], attrs["step"]
    entry, indices = window[axis], writer.indices
    first = indices.number(start)
    if not isinstance(entry, Span):
        moved = entry_for(indices.add(indices.multiply(entry.index, step), first))
    elif step == 1:
        moved = Span(indices.add(entry.start, first), entry.size, entry.divisible)
    else:
        return writer.by_lanes(node, window)
    return writer.tile(node.args[0], _replaced(window, axis, moved))


def _pad(writer: Writer, node: Node, window: Window) -> Node:
    attrs = _attrs(node)
    axis, low = attrs["axis"], attrs["low"]
    entry, indices, source = window[axis], writer.indices, node.args[0]
    if isinstance(entry, Span) and not _reads_outside_as_zero(writer, source):
        return writer.by_lanes(node, window)
    shift = indices.number(low)
    moved: Entry
    if isinstance(entry, Span):
        moved = Span(indices.subtract(entry.start, shift), entry.size)
    else:
        moved = entry_for(indices.subtract(entry.index, shift))
    position = writer.positions(entry)
    inside = (position >= shift) & (position < indices.number(low + source.shape[axis]))
    flags = _along(inside, axis, window)
    return flags.choose(writer.tile(source, _replaced(window, axis, moved)), attrs["value"])


def _reads_outside_as_zero(writer: Writer, node: Node) -> bool:
    """Is the node in memory, or made of such nodes element by element?

    Only then may a span reach over the edge of the tensor.
    """
    if writer.is_memory(node):
        return True
    return node.op in POINTWISE and all(_reads_outside_as_zero(writer, a) for a in node.args)


def _along(flags: Node, axis: int, window: Window) -> Node:
    """A scalar, or a tile along one axis of the window, grown to the window's tile."""
    if flags.shape == ():
        return flags.expand(tile_shape(window))
    label = "each" if isinstance(window[axis], Each) else axis
    ones = (flags.shape[0] if known_label == label else 1 for known_label in labels(window))
    return flags.reshape(ones).expand(tile_shape(window))


def _concat(writer: Writer, node: Node, window: Window) -> Node:
    axis = _attrs(node)["axis"]
    entry = window[axis]
    if not isinstance(entry, Span):
        return _chosen_part(writer, node, window, axis)
    start, stop = known(entry.start), entry.size
    low: Dim = 0
    borders: list[int] = []
    for part in node.args:
        high = low + part.shape[axis]
        if start is None or not isinstance(stop, int) or not isinstance(high, int):
            return writer.by_lanes(node, window)
        if isinstance(low, int) and low <= start and start + stop <= high:
            moved = Span(writer.indices.number(start - low), entry.size, entry.divisible)
            return writer.tile(part, _replaced(window, axis, moved))
        if start < high < start + stop:
            borders.append(high - start)
        low = high
    if entry.divisible:
        raise MustCut(tuple(borders))
    return writer.by_lanes(node, window)


def _chosen_part(writer: Writer, node: Node, window: Window, axis: int) -> Node:
    index = index_of(window[axis])
    result: Node | None = None
    low: Dim = node.shape[axis]
    for part in reversed(node.args):
        low = low - part.shape[axis]
        inner = entry_for(writer.indices.subtract(index, writer.indices.number(low)))
        value = writer.tile(part, _replaced(window, axis, inner))
        if result is None:
            result = value
        else:
            before = index < writer.indices.number(low + part.shape[axis])
            result = _along(before, axis, window).choose(value, result)
    if result is None:
        raise CannotPull(node)
    return result


def _gather(writer: Writer, node: Node, window: Window) -> Node:
    axis = _attrs(node)["axis"]
    source, index = node.args
    asked = window[axis : axis + index.tensor.rank]
    rest = (*window[:axis], *window[axis + index.tensor.rank :])
    num_spans = sum(isinstance(entry, Span) for entry in asked)
    mixed = any(isinstance(entry, Each) for entry in rest)
    if num_spans > 1 or (num_spans == 1 and mixed):
        return writer.by_lanes(node, window)
    chosen = writer.tile(index, asked).cast(DType.INT64)
    inner = (*window[:axis], entry_for(chosen), *window[axis + index.tensor.rank :])
    tile = writer.tile(source, inner)
    if num_spans == 0:
        return tile.expand(tile_shape(window))
    return _gathered_in_place(tile, inner, window, axis, asked)


def _gathered_in_place(tile: Node, inner: Window, window: Window, axis: int, asked: Window) -> Node:
    """The index list came first in the tile; put it where its span stands in `window`."""
    place = axis + next(i for i, entry in enumerate(asked) if isinstance(entry, Span))
    shift = len(asked) - 1
    names = {d: d if d < axis else d + shift for d in range(len(inner))}
    own = [place if label == "each" else names[int(label)] for label in labels(inner)]
    wanted = labels(window)
    return tile.permute(sorted(range(len(own)), key=lambda i: wanted.index(own[i])))


def _take_along(writer: Writer, node: Node, window: Window) -> Node:
    axis = _attrs(node)["axis"]
    source, index = node.args
    if any(isinstance(entry, Span) for entry in window):
        return writer.by_lanes(node, window)
    chosen = writer.tile(index, window).cast(DType.INT64)
    tile = writer.tile(source, _replaced(window, axis, entry_for(chosen)))
    return tile.expand(tile_shape(window))


def _block_of(node: Node, window: Window) -> tuple[tuple[At, ...], Span, Span]:
    """A matrix [rows, columns] of a product: the batch it belongs to, and both spans."""
    *batch, row, column = window
    heads = tuple(entry for entry in batch if isinstance(entry, At))
    if len(heads) < len(batch) or not isinstance(row, Span) or not isinstance(column, Span):
        raise CannotPull(node)
    return heads, row, column


def _dot(writer: Writer, node: Node, window: Window) -> Node:
    a, b = node.args
    attrs = _attrs(node)
    batch, row, column = _block_of(node, window)
    transposed = bool(attrs.get("transpose_b"))

    def factors(depth: Span) -> tuple[Node, Node]:
        across = (column, depth) if transposed else (depth, column)
        return writer.tile(a, (*batch, row, depth)), writer.tile(b, (*batch, *across))

    return contract(
        writer,
        factors,
        a.shape[-1],
        writer.options.depth_piece,
        shape=(row.size, column.size),
        dtype=node.dtype,
        transpose_b=transposed,
    )


def _packed_dot(writer: Writer, node: Node, window: Window) -> Node:
    a, panels = node.args
    batch, row, column = _block_of(node, window)
    left = writer.tile(a, (*batch, row, whole(writer.indices, a.shape[-1])))
    first = writer.indices.divide(column.start, PANEL_COLUMNS)
    chosen = Span(first, column.size // PANEL_COLUMNS)
    rest = tuple(whole(writer.indices, size) for size in panels.shape[-3:])
    own = batch if panels.tensor.rank > 4 else ()
    right = writer.load(panels, (*own, chosen, *rest))
    return writer.builder.add(
        "packed_dot", (left, right), columns=column.size, dtype=_attrs(node)["dtype"]
    )


def _quantize_rows(writer: Writer, node: Node, window: Window) -> Node:
    (x,) = node.args
    *heads, last = window
    if not is_whole(last, node.shape[-1]) or not all(isinstance(entry, At) for entry in heads):
        raise CannotPull(node)
    row = writer.tile(x, (*heads, whole(writer.indices, x.shape[-1])))
    return row.apply("quantize_rows", **_attrs(node))


def _quantized_dot(writer: Writer, node: Node, window: Window) -> Node:
    rows, *weights = node.args
    _, row, column = _block_of(node, window)
    left = writer.tile(rows, (row, whole(writer.indices, rows.shape[-1])))
    first = writer.indices.divide(column.start, BLOCK_COLUMNS)
    chosen = Span(first, column.size // BLOCK_COLUMNS)
    tiles = [left]
    for part in weights:
        rest = tuple(whole(writer.indices, size) for size in part.shape[1:])
        tiles.append(writer.load(part, (chosen, *rest)))
    attrs = {**_attrs(node), "columns": column.size}
    return writer.builder.add("quantized_dot", tiles, **attrs)


RULES: Mapping[str, TileRule] = {
    "constant": _constant,
    "size": _size,
    "iota": _iota,
    "expand": _expand,
    "reshape": _reshape,
    "permute": _permute,
    "slice": _slice,
    "pad": _pad,
    "concat": _concat,
    "gather": _gather,
    "take_along": _take_along,
    "reduce": reduce,
    "cumsum": cumsum,
    "dot": _dot,
    "packed_dot": _packed_dot,
    "quantize_rows": _quantize_rows,
    "quantized_dot": _quantized_dot,
}
"""By operation."""
