"""Linear layers whose weight depends on the row: the experts of a mixture.

First the rows are ordered by expert, then each expert multiplies its own rows, gathered from and
scattered to where they were.
"""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.symbols import Dim, ceil_divide, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.contractions import contract
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Each, Span, whole

PANEL_GROUPS = 4
"""Groups of panels of one program, so that gathering its rows costs little beside multiplying."""


def group_rows_kernel(
    builder: Builder, experts: TensorType, groups: int, piece: int | None = None
) -> Kernel:
    """Pointers (experts [R], order i32[R], starts i32[groups + 1]): a stable counting sort.

    Program e counts the rows of earlier experts and writes the numbers of its own after them,
    `piece` rows at a time.
    """
    tiles = Tiles(builder)
    indices = tiles.indices
    (num_rows,) = experts.shape
    source = builder.pointer("experts", experts, "read")
    order = builder.pointer("order", TensorType((num_rows,), DType.INT32), "write")
    starts = builder.pointer("starts", TensorType((groups + 1,), DType.INT32), "write")
    expert = tiles.parameter()
    zero = indices.number(0)

    def chosen(span: Span) -> Node:
        return tiles.cast(tiles.read(source, (span,)), DType.INT64)

    def total(flags: Node) -> Node:
        counted = tiles.cast(flags, DType.INT64)
        return builder.add("reduce", (counted,), axes=(0,), kind="sum")

    def count(span: Span, before: Node) -> list[Node]:
        return [indices.add(before, total(tiles.add("lt", chosen(span), expert)))]

    _, (start,) = tiles.pieces(num_rows, piece, [zero], count)

    def number(span: Span, before: Node) -> list[Node]:
        mine = tiles.add("eq", chosen(span), expert)
        rank = builder.add("cumsum", (tiles.cast(mine, DType.INT64),), axis=0)
        place = indices.add(rank, indices.subtract(before, indices.number(1)))
        target = tiles.add("where", mine, place, indices.number(num_rows))
        numbers = indices.add(indices.count(span.size), span.start)
        store = tiles.store(order, tiles.cast(numbers, DType.INT32), (Each(target),))
        return [indices.add(before, total(mine)), store]

    stores, _ = tiles.pieces(num_rows, piece, [start], number)
    first = tiles.store(starts, tiles.cast(start, DType.INT32), (At(expert),))
    body = Region((expert,), (first, *stores), ())
    return Kernel("group_rows", (groups + 1,), (source, order, starts), body)


@dataclass(frozen=True, slots=True)
class GroupedLinear:
    """One grouped linear layer.

    Attributes:
        rows: type of the rows [R, K].
        weight: type of the weights, [E, N, K] or stacked panels [E, N/16, K/p, 16, p].
        columns: N.
        dtype: of the result [R, N].
        row_block: rows multiplied at once.
        panel_group: panels of 16 columns of one program.
        depth_piece: K summed at a time by weights that are not packed; None for all.
    """

    rows: TensorType
    weight: TensorType
    columns: int
    dtype: DType
    row_block: int
    panel_group: int
    depth_piece: int | None = None


def grouped_linear_kernel(builder: Builder, layer: GroupedLinear) -> Kernel:
    """Pointers (rows, weight, order, starts, out). Grid (experts, column blocks).

    Neighbouring programs read one expert's weights in ascending order, and its rows while they are
    in the cache. A program gathers rows first, which pays only with many columns behind it.
    """
    tiles = Tiles(builder)
    indices = tiles.indices
    num_rows = layer.rows.shape[0]
    experts = layer.weight.shape[0]
    rows = builder.pointer("rows", layer.rows, "read")
    weight = builder.pointer("weight", layer.weight, "read")
    order = builder.pointer("order", TensorType((num_rows,), DType.INT32), "read")
    starts = builder.pointer("starts", TensorType((experts + 1,), DType.INT32), "read")
    out = builder.pointer("out", TensorType((num_rows, layer.columns), layer.dtype), "write")
    block, expert = tiles.parameter(), tiles.parameter()
    first = tiles.cast(tiles.read(starts, (At(expert),)), DType.INT64)
    following = At(indices.add(expert, indices.number(1)))
    stop = tiles.cast(tiles.read(starts, (following,)), DType.INT64)
    columns = _columns(layer)
    step = tiles.parameter()
    left = indices.subtract(stop, step)
    count = indices.smaller(left, indices.number(layer.row_block))
    name = "expert_rows"
    bind = builder.add("bind", (count,), name=name, minimum=1, maximum=layer.row_block)
    chosen = tiles.read(order, (Span(step, symbol(name, 1, layer.row_block)),))
    numbers = Each(tiles.cast(chosen, DType.INT64))
    span = Span(indices.multiply(block, columns), columns)
    product = _product(tiles, layer, (rows, weight), (numbers, At(expert), block))
    store = tiles.store(out, product, (numbers, span))
    region = Region((step,), (bind, store), ())
    loop = builder.add("loop", (first, stop), step=layer.row_block, body=region)
    grid: tuple[Dim, ...] = (experts, ceil_divide(layer.columns, columns))
    pointers = (rows, weight, order, starts, out)
    return Kernel("grouped_linear", grid, pointers, Region((expert, block), (loop,), ()))


def _columns(layer: GroupedLinear) -> int:
    """Columns of one program."""
    panels = min(PANEL_GROUPS * layer.panel_group, -(-layer.columns // PANEL_COLUMNS))
    return panels * PANEL_COLUMNS


def _product(
    tiles: Tiles, layer: GroupedLinear, factors: tuple[Node, Node], place: tuple[Each, At, Node]
) -> Node:
    """The product of the rows `place[0]` with column block `place[2]` of an expert's weight."""
    (rows, weight), (numbers, expert, block) = factors, place
    indices, columns = tiles.indices, _columns(layer)
    depth = layer.rows.shape[1]
    if layer.weight.rank == 3:
        across = Span(indices.multiply(block, columns), columns)

        def pair(span: Span) -> tuple[Node, Node]:
            return tiles.read(rows, (numbers, span)), tiles.read(weight, (expert, across, span))

        shape = (*numbers.index.shape, columns)
        return contract(
            tiles, pair, depth, layer.depth_piece, shape=shape, dtype=layer.dtype, transpose_b=True
        )
    values = tiles.read(rows, (numbers, whole(indices, depth)))
    panels = columns // PANEL_COLUMNS
    lines = tuple(whole(indices, size) for size in layer.weight.shape[2:])
    chosen = Span(indices.multiply(block, panels), panels)
    packed = tiles.read(weight, (expert, chosen, *lines))
    return tiles.builder.add("packed_dot", (values, packed), columns=columns, dtype=layer.dtype)
