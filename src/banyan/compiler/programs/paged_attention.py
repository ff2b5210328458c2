"""Attention of new tokens over a paged cache: one program text for prefill chunks and decode.

Grid (kv heads, query tiles): threads get contiguous parts of it, and late tiles of a prompt see
many more keys than early ones, so whole heads share the work evenly. A query tile is up to 16 new
tokens of one sequence with all query heads of the group, so a decode step and a prefill chunk
differ only in the number of rows. Keys are read four blocks at a time with the running softmax of
Milakov and Gimelshein (2018, arXiv:1805.02867): `top` is the largest score so far, `total` the sum
of exponentials, `sums` the weighted values, all float32.
"""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Span, whole

BLOCK = 16
QUERY_TOKENS = 16
BLOCKS_AT_ONCE = 4
HIDDEN = -1e30
"""Score of a key that a token must not see: its exponential is 0 beside any real score."""


@dataclass(frozen=True, slots=True)
class AttentionTypes:
    """Types of the arguments of `paged_attention`, in order."""

    queries: TensorType
    keys: TensorType
    values: TensorType
    tables: TensorType
    starts: TensorType
    lengths: TensorType


@dataclass(frozen=True, slots=True)
class _Pointers:
    queries: Node
    keys: Node
    values: Node
    tables: Node
    starts: Node
    lengths: Node
    out: Node


@dataclass(frozen=True, slots=True)
class _Tile:
    """One query tile: its sequence, first token, and the position of that token."""

    sequence: Node
    first: Node
    tokens: Node
    position: Node


def paged_attention_kernel(
    builder: Builder, types: AttentionTypes, scale: float, window: int
) -> Kernel:
    """The kernel with the pointers of `AttentionTypes` and the result."""
    program = _Program(Tiles(builder), types, scale, window)
    return program.kernel()


class _Program:
    def __init__(self, tiles: Tiles, types: AttentionTypes, scale: float, window: int) -> None:
        self.tiles = tiles
        self.types = types
        self.scale = scale
        self.window = window
        pointer = tiles.builder.pointer
        self.at = _Pointers(
            pointer("queries", types.queries, "read"),
            pointer("keys", types.keys, "read"),
            pointer("values", types.values, "read"),
            pointer("tables", types.tables, "read"),
            pointer("starts", types.starts, "read"),
            pointer("lengths", types.lengths, "read"),
            pointer("out", types.queries, "write"),
        )
        self.head_size: Dim = types.queries.shape[2]
        self.group: Dim = _fixed(types.queries.shape[1]) // _fixed(types.keys.shape[1])
        self.tokens = symbol("query_tokens", 0, QUERY_TOKENS)
        self.num_rows: Dim = self.tokens * self.group

    @property
    def indices(self) -> Indices:
        return self.tiles.indices

    def kernel(self) -> Kernel:
        number, head = self.tiles.parameter(), self.tiles.parameter()
        tile = self._find(number)
        bind = self.tiles.builder.add(
            "bind", (tile.tokens,), name="query_tokens", minimum=0, maximum=QUERY_TOKENS
        )
        place = (
            Span(tile.first, self.tokens),
            Span(self.indices.multiply(head, self.group), self.group),
            whole(self.indices, self.head_size),
        )
        loaded = self.tiles.read(self.at.queries, place)
        rows = self.tiles.reshaped(loaded, (self.num_rows, self.head_size))
        result = self._attend(tile, head, rows)
        shaped = self.tiles.reshaped(result, (self.tokens, self.group, self.head_size))
        store = self.tiles.store(self.at.out, shaped, place)
        grid = (self.types.keys.shape[1], self._num_tiles())
        read = (self.at.queries, self.at.keys, self.at.values)
        where = (self.at.tables, self.at.starts, self.at.lengths)
        pointers = (*read, *where, self.at.out)
        return Kernel("paged_attention", grid, pointers, Region((head, number), (bind, store), ()))

    def _num_tiles(self) -> Dim:
        """Every sequence has its whole tiles and at most one more."""
        return self.types.queries.shape[0] // QUERY_TOKENS + self.types.lengths.shape[0]

    def _number_at(self, pointer: Node, index: Node) -> Node:
        return self.tiles.cast(self.tiles.read(pointer, (At(index),)), DType.INT64)

    def _new_tokens(self, sequence: Node) -> tuple[Node, Node]:
        """The first new token of a sequence and how many there are."""
        first = self._number_at(self.at.starts, sequence)
        following = self.indices.add(sequence, self.indices.number(1))
        return first, self.indices.subtract(self._number_at(self.at.starts, following), first)

    def _find(self, number: Node) -> _Tile:
        """Which sequence, and which of its tokens, query tile `number` is.

        Tiles after the last one get no tokens.
        """
        index, add = self.indices, self.tiles.add
        zero, size = index.number(0), index.number(QUERY_TOKENS)

        def body(sequence: Node, before: Node, *found: Node) -> list[Node]:
            first, count = self._new_tokens(sequence)
            rounded = index.add(count, index.number(QUERY_TOKENS - 1))
            after = index.add(before, index.divide(rounded, QUERY_TOKENS))
            here = add("and", add("le", before, number), add("lt", number, after))
            skipped = index.multiply(index.subtract(number, before), QUERY_TOKENS)
            tokens = index.smaller(index.subtract(count, skipped), size)
            mine = (sequence, index.add(first, skipped), tokens)
            return [after, *(add("where", here, m, f) for m, f in zip(mine, found, strict=True))]

        num_sequences = index.number(self.types.lengths.shape[0])
        found = self.tiles.range(zero, num_sequences, [zero, zero, zero, zero], body)
        _, sequence, first, tokens = found
        start, count = self._new_tokens(sequence)
        past = index.subtract(self._number_at(self.at.lengths, sequence), count)
        return _Tile(sequence, first, tokens, index.add(past, index.subtract(first, start)))

    def _attend(self, tile: _Tile, head: Node, rows: Node) -> Node:
        index, add = self.indices, self.tiles.add
        positions = self._row_positions(tile)
        first_block, stop_block = self._blocks(tile)
        fill = self.tiles.fill
        initial = [
            fill(HIDDEN, DType.FLOAT32, (self.num_rows,)),
            fill(0, DType.FLOAT32, (self.num_rows,)),
            fill(0, DType.FLOAT32, (self.num_rows, self.head_size)),
        ]

        def body(step: Node, top: Node, total: Node, sums: Node) -> list[Node]:
            first = index.add(first_block, index.multiply(step, BLOCKS_AT_ONCE))
            numbers = [index.add(first, index.number(i)) for i in range(BLOCKS_AT_ONCE)]
            where = [self._block(tile.sequence, n, stop_block) for n in numbers]
            scores = [
                self._scores(rows, block, head, number, positions)
                for block, number in zip(where, numbers, strict=True)
            ]
            # Blocks are joined first: one walk along each row instead of one per block.
            highest = add("max", top, self._along_row(self._joined("max", scores), "max"))
            weights = [
                add("exp", add("sub", s, self.tiles.columns(highest, BLOCK))) for s in scores
            ]
            fade = add("exp", add("sub", top, highest))
            in_step = self._along_row(self._joined("add", weights), "sum")
            new_total = add("add", add("mul", total, fade), in_step)
            new_sums = add("mul", sums, self.tiles.columns(fade, self.head_size))
            for weight, block in zip(weights, where, strict=True):
                new_sums = add("add", new_sums, self._weighted(weight, block, head))
            return [highest, new_total, new_sums]

        steps = index.divide(
            index.add(index.subtract(stop_block, first_block), index.number(BLOCKS_AT_ONCE - 1)),
            BLOCKS_AT_ONCE,
        )
        _, total, sums = self.tiles.range(index.number(0), steps, initial, body)
        result = add("div", sums, self.tiles.columns(total, self.head_size))
        return self.tiles.cast(result, self.types.queries.dtype)

    def _block(self, sequence: Node, number: Node, stop: Node) -> Node:
        """The place of a block of the sequence in the cache; behind its last block nowhere.

        What lies there may be another sequence's: 0 times its infinity would be NaN.
        """
        index, add = self.indices, self.tiles.add
        place = self.tiles.read(self.at.tables, (At(sequence), At(number)))
        own = add("lt", number, stop)
        return add("where", own, self.tiles.cast(place, DType.INT64), index.number(-1))

    def _joined(self, op: str, tiles: list[Node]) -> Node:
        """Tiles of equal shape as one, element by element."""
        first, *rest = tiles
        for tile in rest:
            first = self.tiles.add(op, first, tile)
        return first

    def _along_row(self, tile: Node, kind: str) -> Node:
        return self.tiles.builder.add("reduce", (tile,), axes=(1,), kind=kind)

    def _row_positions(self, tile: _Tile) -> Node:
        """The position of each row: the query heads of one token share it."""
        steps = self.tiles.columns(self.indices.count(self.tokens), self.group)
        flat = self.tiles.reshaped(steps, (self.num_rows,))
        return self.indices.add(flat, tile.position)

    def _blocks(self, tile: _Tile) -> tuple[Node, Node]:
        """First block that any row sees, and the one after the last; equal without rows."""
        index = self.indices
        last = index.add(tile.position, tile.tokens)
        rounded = index.add(last, index.number(BLOCK - 1))
        stop = index.divide(rounded, BLOCK)
        first = index.number(0)
        if self.window:
            oldest = index.subtract(tile.position, index.number(self.window - 1))
            # Whole steps from the start of the sequence: the sums of a token then do not depend
            # on how its prompt was cut into chunks. What no row sees adds nothing.
            step = BLOCK * BLOCKS_AT_ONCE
            skipped = index.divide(self.tiles.add("max", oldest, first), step)
            first = index.multiply(skipped, BLOCKS_AT_ONCE)
        empty = self.tiles.add("eq", tile.tokens, index.number(0))
        return first, self.tiles.add("where", empty, first, stop)

    def _scores(self, rows: Node, block: Node, head: Node, number: Node, positions: Node) -> Node:
        """Scaled products with the 16 keys of one block; keys out of sight get `HIDDEN`."""
        tiles, index = self.tiles, self.indices
        inner = (whole(index, size) for size in self.types.keys.shape[2:])
        keys = tiles.read(self.at.keys, (At(block), At(head), *inner))
        product = tiles.builder.add("dot", (rows, keys), packed=True, dtype=DType.FLOAT32)
        scaled = tiles.add("mul", product, tiles.fill(self.scale, DType.FLOAT32, ()))
        offsets = index.add(index.count(BLOCK), index.multiply(number, BLOCK))
        column = tiles.rows(offsets, self.num_rows)
        seen = tiles.add("le", column, tiles.columns(positions, BLOCK))
        if self.window:
            oldest = index.subtract(positions, index.number(self.window))
            seen = tiles.add("and", seen, tiles.add("gt", column, tiles.columns(oldest, BLOCK)))
        return tiles.add("where", seen, scaled, tiles.fill(HIDDEN, DType.FLOAT32, ()))

    def _weighted(self, weights: Node, block: Node, head: Node) -> Node:
        """Weights [rows, 16] times the values of one block, summed in float32."""
        tiles = self.tiles
        inner = (whole(self.indices, size) for size in self.types.values.shape[2:])
        values = tiles.read(self.at.values, (At(block), At(head), *inner))
        narrow = tiles.cast(weights, self.types.values.dtype)
        return tiles.builder.add("dot", (narrow, values), packed=True, dtype=DType.FLOAT32)


def _fixed(size: Dim) -> int:
    if not isinstance(size, int):
        raise TypeError("head counts are fixed")
    return size
