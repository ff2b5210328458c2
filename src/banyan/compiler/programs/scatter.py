"""Writing rows to places that the data name, or joining them with what is there, in order.

One program takes some columns of one batch and goes over all entries, so two entries of one place
never meet, the last one wins, and sums are the same in every run.
"""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.symbols import ceil_divide, upper_bound
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Each, Span, Window

COLUMNS = 128
"""Columns of one program: whole cache lines, and still a program for each thread."""
JOINS = {"add": "add", "prod": "mul", "amax": "max", "amin": "min"}
"""Kinds of joining, and the operation of each; "set" writes over what is there."""


@dataclass(frozen=True, slots=True)
class Scatter:
    """One operation `scatter`.

    Attributes:
        target: type of what is written to, [B, N, C].
        index: type of the places, [M] or [B, M, C].
        rows: type of what is written, [B, M, C].
        kind: "set", "add", "prod", "amax" or "amin".
        start: the number that every element of the target is, which then is not read.
    """

    target: TensorType
    index: TensorType
    rows: TensorType
    kind: str
    start: float | None


def scatter_kernel(builder: Builder, scatter: Scatter) -> Kernel:
    """The kernel with pointers (target unless all its elements are equal, index, rows, result)."""
    tiles = Tiles(builder)
    batches, height, columns = scatter.target.shape
    batch, block = tiles.parameter(), tiles.parameter()
    width = min(COLUMNS, upper_bound(columns))
    first = tiles.indices.multiply(block, width)
    size, binds = tiles.rest(columns, first, width)
    span = Span(first, size)
    source = builder.pointer("target", scatter.target, "read")
    index = builder.pointer("index", scatter.index, "read")
    rows = builder.pointer("rows", scatter.rows, "read")
    result = builder.pointer("result", scatter.target, "write")

    def copy(row: Node) -> Node:
        window = (At(batch), At(row), span)
        if scatter.start is None:
            return tiles.store(result, tiles.read(source, window), window)
        filled = tiles.fill(scatter.start, scatter.target.dtype, (size,))
        return tiles.store(result, filled, window)

    def write(entry: Node) -> Node:
        window = _place(tiles, index, (batch, entry, span))
        new = tiles.read(rows, (At(batch), At(entry), span))
        if scatter.kind != "set":
            new = _joined(tiles, scatter.kind, tiles.read(result, window), new)
        return tiles.store(result, new, window)

    number = tiles.indices.number
    loops = []
    for count, step in ((height, copy), (scatter.rows.shape[1], write)):
        line = tiles.parameter()
        body = Region((line,), (step(line),), ())
        loops.append(builder.add("loop", (number(0), number(count)), step=1, body=body))
    body = Region((batch, block), (*binds, *loops), ())
    given = (source,) if scatter.start is None else ()
    pointers = (*given, index, rows, result)
    return Kernel(f"scatter_{scatter.kind}", (batches, ceil_divide(columns, width)), pointers, body)


def _place(tiles: Tiles, index: Node, where: tuple[Node, Node, Span]) -> Window:
    """The part of the result that one entry names; outside the tensor where it names none."""
    batch, entry, span = where
    if index.tensor.rank == 1:
        place = tiles.cast(tiles.read(index, (At(entry),)), DType.INT64)
        return (At(batch), At(place), span)
    places = tiles.cast(tiles.read(index, (At(batch), At(entry), span)), DType.INT64)
    columns = tiles.indices.add(tiles.indices.count(span.size), span.start)
    return (At(batch), Each(places), Each(columns))


def _joined(tiles: Tiles, kind: str, old: Node, new: Node) -> Node:
    joined = tiles.add(JOINS[kind], old, new)
    if kind not in ("amax", "amin") or not new.dtype.is_floating:
        return joined
    # The IR's extremes pass over NaN; PyTorch's keep it.
    joined = tiles.add("where", tiles.add("ne", old, old), old, joined)
    return tiles.add("where", tiles.add("ne", new, new), new, joined)
