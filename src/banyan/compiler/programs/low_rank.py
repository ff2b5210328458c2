"""The change that an adapter makes to the linear layers of its rows: up (down x), for each row.

Rows are ordered by adapter first (`group_rows`), so a block of them meets few adapters, however
many there are. A program takes one block: for each adapter in it, it multiplies the block's rows
by both factors, and what lies between never leaves the cache. Layers that read the same rows share
the first product (Hu et al. 2021, arXiv:2106.09685; grouping as in Chen et al. 2023,
arXiv:2310.18547).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.symbols import Dim, ceil_divide, fixed, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Each, Span, whole

ROW_BLOCK = 8
"""Rows of one program: few, so that a step of sixteen sequences keeps two threads busy."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """Types of one group of layers; S adapters, C columns of all first factors, R of one.

    Attributes:
        rows: [T, K].
        down: [S * C/16, K/p, 16, p], both in blocks of sixteen columns: memory is read in order.
        up: [S * N/16, R/p, 16, p].
        chosen: [T] integers; S stands for no adapter.
        columns: outputs of each layer; they add up to N.
        scales: [S, C] of factors in bytes: what a product of both is worth, for each rank.
    """

    rows: TensorType
    down: TensorType
    up: TensorType
    chosen: TensorType
    columns: tuple[int, ...]
    scales: TensorType | None = None

    @property
    def rank(self) -> int:
        """R."""
        return fixed(self.up.shape[1]) * fixed(self.up.shape[3])

    @property
    def num_adapters(self) -> int:
        """S."""
        return fixed(self.up.shape[0]) * PANEL_COLUMNS // sum(self.columns)

    @property
    def width(self) -> int:
        """C."""
        return fixed(self.down.shape[0]) // self.num_adapters * PANEL_COLUMNS

    @property
    def result(self) -> TensorType:
        """[T, N]."""
        return TensorType((self.rows.shape[0], sum(self.columns)), self.rows.dtype)


def low_rank_kernel(builder: Builder, types: LowRank) -> Kernel:
    """Pointers (rows, down, up, chosen, scales?, order, starts, out).

    One program for each block of rows.
    """
    return _Program(Tiles(builder), types).kernel()


class _Program:
    def __init__(self, tiles: Tiles, types: LowRank) -> None:
        self.tiles, self.types = tiles, types
        num_rows, num_adapters = types.rows.shape[0], types.num_adapters
        self.num_adapters = num_adapters
        pointer, i32 = tiles.builder.pointer, DType.INT32
        self.rows = pointer("rows", types.rows, "read")
        self.down = pointer("down", types.down, "read")
        self.up = pointer("up", types.up, "read")
        self.chosen = pointer("chosen", types.chosen, "read")
        scales = types.scales
        self.scales = None if scales is None else pointer("scales", scales, "read")
        self.order = pointer("order", TensorType((num_rows,), i32), "read")
        self.starts = pointer("starts", TensorType((num_adapters + 1,), i32), "read")
        self.out = pointer("out", types.result, "write")

    def kernel(self) -> Kernel:
        tiles, index, num_rows = self.tiles, self.tiles.indices, self.types.rows.shape[0]
        block = tiles.parameter()
        begin = index.multiply(block, ROW_BLOCK)
        end = index.smaller(index.add(begin, index.number(ROW_BLOCK)), index.number(num_rows))
        none = index.number(self.num_adapters)
        first = index.smaller(self._adapter_of(begin), none)
        last = self._adapter_of(index.subtract(end, index.number(1)))
        after = index.smaller(index.add(last, index.number(1)), none)
        adapter = tiles.parameter()
        following = index.add(adapter, index.number(1))
        start = tiles.add("max", self._number(self.starts, adapter), begin)
        stop = index.smaller(self._number(self.starts, following), end)
        changes = self._over_rows((start, stop), "adapter_rows", lambda n: self._change(n, adapter))
        each = tiles.builder.add(
            "loop", (first, after), step=1, body=Region((adapter,), (changes,), ())
        )
        rest = tiles.add("max", self._number(self.starts, none), begin)
        zeros = self._over_rows((rest, end), "other_rows", self._zeros)
        pointers = (
            *(self.rows, self.down, self.up, self.chosen),
            *(() if self.scales is None else (self.scales,)),
            self.order,
            self.starts,
            self.out,
        )
        grid: tuple[Dim, ...] = (ceil_divide(num_rows, ROW_BLOCK),)
        return Kernel("low_rank", grid, pointers, Region((block,), (each, zeros), ()))

    def _number(self, pointer: Node, index: Node) -> Node:
        return self.tiles.cast(self.tiles.read(pointer, (At(index),)), DType.INT64)

    def _adapter_of(self, place: Node) -> Node:
        """The adapter of the row that stands at a place of the order."""
        return self._number(self.chosen, self._number(self.order, place))

    def _over_rows(
        self, ends: tuple[Node, Node], name: str, body: Callable[[Node], list[Node]]
    ) -> Node:
        """Do `body` for the rows at the places `ends` of the order, if there are any."""
        tiles, index = self.tiles, self.tiles.indices
        step = tiles.parameter()
        left = index.smaller(index.subtract(ends[1], step), index.number(ROW_BLOCK))
        bind = tiles.builder.add("bind", (left,), name=name, minimum=1, maximum=ROW_BLOCK)
        numbers = tiles.read(self.order, (Span(step, symbol(name, 1, ROW_BLOCK)),))
        stores = body(tiles.cast(numbers, DType.INT64))
        region = Region((step,), (bind, *stores), ())
        return tiles.builder.add("loop", ends, step=ROW_BLOCK, body=region)

    def _change(self, numbers: Node, adapter: Node) -> list[Node]:
        """Write what an adapter adds to its rows."""
        tiles, index, types = self.tiles, self.tiles.indices, self.types
        dtype, rank = types.rows.dtype, types.rank
        rows = tiles.read(self.rows, (Each(numbers), whole(index, types.rows.shape[1])))
        narrow = self._product(
            rows, self._factor(self.down, adapter, types.width, (0, types.width))
        )
        if self.scales is not None:
            scale = tiles.read(self.scales, (At(adapter), whole(index, types.width)))
            narrow = narrow * tiles.rows(scale, narrow.shape[0])
        narrow = tiles.cast(narrow, dtype)
        stores = []
        borders = [sum(types.columns[:i]) for i in range(len(types.columns) + 1)]
        for part, (low, high) in enumerate(pairwise(borders)):
            own = narrow.slice(1, part * rank, (part + 1) * rank)
            factor = self._factor(self.up, adapter, borders[-1], (low, high))
            change = self._product(own, factor)
            across = Span(index.number(low), high - low)
            stores.append(tiles.store(self.out, tiles.cast(change, dtype), (Each(numbers), across)))
        return stores

    def _factor(self, pointer: Node, adapter: Node, width: int, part: tuple[int, int]) -> Node:
        """The columns `part` of one of an adapter's factors, [K/p, high - low, p]."""
        tiles, index, (low, high) = self.tiles, self.tiles.indices, part
        each, first = width // PANEL_COLUMNS, low // PANEL_COLUMNS
        start = index.add(index.multiply(adapter, each), index.number(first))
        numbers = index.add(index.count((high - low) // PANEL_COLUMNS), start)
        lines, columns, pair = pointer.shape[1:]
        inner = tuple(whole(index, size) for size in (lines, columns, pair))
        blocks = tiles.cast(tiles.read(pointer, (Each(numbers), *inner)), self.types.rows.dtype)
        return blocks.permute((1, 0, 2, 3)).reshape((lines, high - low, pair))

    def _product(self, rows: Node, factor: Node) -> Node:
        return self.tiles.builder.add("dot", (rows, factor), packed=True, dtype=DType.FLOAT32)

    def _zeros(self, numbers: Node) -> list[Node]:
        """Rows without an adapter stay as the base makes them."""
        tiles, size = self.tiles, sum(self.types.columns)
        zero = tiles.fill(0, self.types.rows.dtype, (*numbers.shape, size))
        return [tiles.store(self.out, zero, (Each(numbers), whole(tiles.indices, size)))]
