"""Reductions on tiles: the last axis as one tile, axes before it as loops."""

from collections.abc import Sequence

from banyan.compiler.ir.attributes import integer, integers
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, upper_bound
from banyan.compiler.ir.types import DType
from banyan.compiler.tiling.windows import (
    At,
    CannotPull,
    Each,
    Entry,
    Span,
    Window,
    is_whole,
    labels,
    tile_shape,
    whole,
)
from banyan.compiler.tiling.writer import Writer

COMBINE = {"sum": "add", "max": "max", "min": "min", "prod": "mul"}


def reduce(writer: Writer, node: Node, window: Window) -> Node:
    """The reduction of whole axes; the kept dims follow the window."""
    (source,) = node.args
    axes, kind = integers(node, "axes"), str(node.attr("kind"))
    if any(isinstance(entry, Each) for entry in window):
        raise CannotPull(node)
    kept = iter(window)
    inner: list[Entry | None] = [
        None if axis in axes else next(kept) for axis in range(source.tensor.rank)
    ]
    last = source.tensor.rank - 1
    looped = [axis for axis in axes if axis != last]
    if kind == "argmax":
        if len(axes) > 1:
            raise CannotPull(node)
        if looped:
            return _first_largest(writer, source, inner, looped[0])
    if last in axes:
        inner[last] = whole(writer.indices, source.shape[last])
    elif looped and not any(isinstance(entry, Span) for entry in inner):
        # Nothing else is a tile: take the last reduced axis as one.
        axis = looped.pop()
        inner[axis] = whole(writer.indices, source.shape[axis])
    if not looped:
        return _one_tile(writer, node, source, inner)
    return _loops(writer, node, inner, looped)


def _positions(window: Window, axes: Sequence[int]) -> list[int]:
    """Where the reduced axes stand in the tile."""
    return [i for i, label in enumerate(labels(window)) if label in axes]


def _kept(node: Node, inner: Sequence[Entry | None]) -> tuple[Dim, ...]:
    """The shape of the tile that is left."""
    axes = integers(node, "axes")
    return tile_shape(tuple(e for i, e in enumerate(inner) if e is not None and i not in axes))


def _one_tile(writer: Writer, node: Node, source: Node, inner: list[Entry | None]) -> Node:
    asked = _complete(inner)
    kind, axes = str(node.attr("kind")), integers(node, "axes")
    longest = writer.options.longest_tile
    for axis in axes:
        entry = asked[axis]
        if longest and isinstance(entry, Span) and upper_bound(entry.size) > longest:
            return _in_pieces(writer, node, inner, axis)
    return writer.tile(source, asked).reduce(kind, _positions(asked, axes))


def _in_pieces(writer: Writer, node: Node, inner: list[Entry | None], axis: int) -> Node:
    """The reduction of an axis too long for one tile."""
    (source,) = node.args
    kind = str(node.attr("kind"))
    best_kind = "max" if kind == "argmax" else kind
    wide = DType.FLOAT32 if source.dtype.is_floating else source.dtype
    shape = _kept(node, inner)

    def body(span: Span, best: Node, *place: Node) -> list[Node]:
        asked = _complete([*inner[:axis], span, *inner[axis + 1 :]])
        tile = writer.tile(source, asked).cast(wide)
        axes = _positions(asked, integers(node, "axes"))
        part = tile.reduce(best_kind, axes)
        if not place:
            return [best.apply(COMBINE[kind], part)]
        number = tile.reduce("argmax", axes) + span.start
        return [best.apply("max", part), (part > best).choose(number, place[0])]

    carried = [writer.fill(neutral(best_kind, wide), wide, shape)]
    if kind == "argmax":
        carried.append(writer.fill(0, DType.INT64, shape))
    _, found = writer.pieces(source.shape[axis], writer.options.longest_tile, carried, body)
    return found[1] if kind == "argmax" else found[0].cast(node.dtype)


def _loops(writer: Writer, node: Node, inner: list[Entry | None], looped: list[int]) -> Node:
    (source,) = node.args
    kind = str(node.attr("kind"))
    wide = DType.FLOAT32 if node.dtype.is_floating else node.dtype
    start = writer.fill(neutral(kind, wide), wide, _kept(node, inner))

    def level(depth: int, indices: tuple[Node, ...], total: Node) -> list[Node]:
        if depth == len(looped):
            filled = list(inner)
            for axis, index in zip(looped, indices, strict=True):
                filled[axis] = At(index)
            return [total.apply(COMBINE[kind], _part(writer, node, source, filled).cast(wide))]
        return writer.range(
            writer.indices.number(0),
            writer.indices.number(source.shape[looped[depth]]),
            [total],
            lambda index, value: level(depth + 1, (*indices, index), value),
        )

    return level(0, (), start)[0].cast(node.dtype)


def _part(writer: Writer, node: Node, source: Node, filled: list[Entry | None]) -> Node:
    asked = _complete(filled)
    if any(isinstance(asked[axis], Span) for axis in integers(node, "axes")):
        return _one_tile(writer, node, source, filled)
    return writer.tile(source, asked)


def _first_largest(writer: Writer, source: Node, inner: list[Entry | None], axis: int) -> Node:
    """argmax over an axis that is not the last: a loop that carries the best and its number."""
    zero = writer.indices.number(0)

    def at(index: Node) -> Node:
        return writer.tile(source, _complete([*inner[:axis], At(index), *inner[axis + 1 :]]))

    def body(index: Node, best: Node, number: Node) -> list[Node]:
        value = at(index)
        better = value > best
        return [better.choose(value, best), better.choose(index, number)]

    first = at(zero)
    start = [first, zero.expand(first.shape)]
    size = writer.indices.number(source.shape[axis])
    return writer.range(writer.indices.number(1), size, start, body)[1]


def cumsum(writer: Writer, node: Node, window: Window) -> Node:
    """A running sum needs its whole axis in the tile."""
    axis = integer(node, "axis")
    if not is_whole(window[axis], node.shape[axis]):
        raise CannotPull(node)
    plain = tuple(Span(e.start, e.size) if isinstance(e, Span) else e for e in window)
    return writer.tile(node.args[0], plain).apply("cumsum", axis=labels(window).index(axis))


def _complete(entries: list[Entry | None]) -> Window:
    filled = tuple(entry for entry in entries if entry is not None)
    if len(filled) != len(entries):
        raise ValueError("a reduced axis has no window")
    return filled


def neutral(kind: str, dtype: DType) -> float:
    """The value that changes nothing in a sum, prod, max or min."""
    if kind in ("sum", "prod"):
        return 0 if kind == "sum" else 1
    if dtype.is_floating:
        return float("-inf") if kind == "max" else float("inf")
    if dtype in (DType.BOOL, DType.UINT8):
        largest = 1 if dtype is DType.BOOL else 255
        return 0 if kind == "max" else largest
    bits = 8 * dtype.num_bytes
    return -(1 << (bits - 1)) if kind == "max" else (1 << (bits - 1)) - 1
