"""Attention of new tokens over a paged cache: one program text for prefill chunks and decode.

Grid (kv heads, parts of a group, query tiles): threads get contiguous parts of it, and late tiles
of a prompt see many more keys than early ones, so whole heads share the work evenly. A query tile
is some new tokens of one sequence with the query heads of the group, so a decode step and a prefill
chunk differ only in the number of rows. Groups too large for one tile are cut into parts.

With a latent cache (multi-head latent attention, DeepSeek-AI 2024, arXiv:2405.04434) keys and
values are one tensor: a value is the first part of its key, turned to lie as values do.
"""

import math
from dataclasses import dataclass, replace

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.programs.running_softmax import (
    BLOCK,
    HIDDEN,
    MOST_ROWS,
    STEP,
    STEP_BLOCKS,
    attend,
    fixed,
    product_with_keys,
    product_with_values,
)
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Each, Span, whole

PAGE = 4096
"""Bytes of memory that hardware fetches ahead of a reader without being asked."""

MOST_LATENT_ROWS = 128
"""Rows of a query tile over a latent cache: each of its values is turned once for all of them."""


@dataclass(frozen=True, slots=True)
class AttentionTypes:
    """Types of the arguments of `paged_attention`, in order; no values if the cache is latent."""

    queries: TensorType
    keys: TensorType
    values: TensorType | None
    tables: TensorType
    starts: TensorType
    lengths: TensorType
    key_scales: TensorType | None = None
    value_scales: TensorType | None = None


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Attributes: the factor of scores, keys seen before each token (0: all), size of a value."""

    scale: float
    window: int
    value_size: int


@dataclass(frozen=True, slots=True)
class _Pointers:
    queries: Node
    keys: Node
    values: Node | None
    tables: Node
    starts: Node
    lengths: Node
    scales: tuple[Node, ...]
    out: Node


@dataclass(frozen=True, slots=True)
class _Tile:
    """One query tile: its sequence, first token, and the position of that token."""

    sequence: Node
    first: Node
    tokens: Node
    position: Node


def paged_attention_kernel(
    builder: Builder, types: AttentionTypes, options: AttentionOptions
) -> Kernel:
    """The kernel with the pointers of `AttentionTypes` and the result."""
    return _Program(Tiles(builder), types, options).kernel()


class _Program:
    def __init__(self, tiles: Tiles, types: AttentionTypes, options: AttentionOptions) -> None:
        self.tiles = tiles
        self.types = types
        self.scale = options.scale
        self.window = options.window
        self.value_size = options.value_size
        pointer = tiles.builder.pointer
        queries = types.queries
        self.at = _Pointers(
            pointer("queries", types.queries, "read"),
            pointer("keys", types.keys, "read"),
            None if types.values is None else pointer("values", types.values, "read"),
            pointer("tables", types.tables, "read"),
            pointer("starts", types.starts, "read"),
            pointer("lengths", types.lengths, "read"),
            tuple(
                pointer(f"{name}_scales", kind, "read")
                for name, kind in (("key", types.key_scales), ("value", types.value_scales))
                if kind is not None
            ),
            pointer("out", replace(queries, shape=(*queries.shape[:2], self.value_size)), "write"),
        )
        self.head_size = fixed(queries.shape[2])
        whole_group = fixed(queries.shape[1]) // fixed(types.keys.shape[1])
        most = MOST_ROWS if types.values is not None else MOST_LATENT_ROWS
        sizes = range(1, min(most, whole_group) + 1)
        self.group = max(size for size in sizes if whole_group % size == 0)
        self.num_parts = whole_group // self.group
        self.num_heads = _heads_of_a_tile(types)
        self.most_tokens = max(1, MOST_ROWS // self.group)
        self.tokens = symbol("query_tokens", 0, self.most_tokens)
        self.num_rows: Dim = self.tokens * self.group

    @property
    def indices(self) -> Indices:
        return self.tiles.indices

    def kernel(self) -> Kernel:
        head, part, number = (self.tiles.parameter() for _ in range(3))
        tile = self._find(number)
        bind = self.tiles.builder.add(
            "bind", (tile.tokens,), name="query_tokens", minimum=0, maximum=self.most_tokens
        )
        first, edge, stop, stop_block = self._steps(tile)
        sources: list[_Cache] = []
        places: list[tuple[Span, Span]] = []
        for i in range(self.num_heads):
            own = self.indices.add(
                self.indices.multiply(head, self.num_heads), self.indices.number(i)
            )
            number_of_part = self.indices.add(self.indices.multiply(own, self.num_parts), part)
            group = Span(self.indices.multiply(number_of_part, self.group), self.group)
            places.append((Span(tile.first, self.tokens), group))
            size = whole(self.indices, self.head_size)
            loaded = self.tiles.read(self.at.queries, (*places[i], size))
            rows = self.tiles.reshaped(loaded, (self.num_rows, self.head_size))
            sources.append(_Cache(self, tile, own, rows, stop_block))
        shape = self.num_rows, self.value_size
        means = attend(self.tiles, sources, (first, edge, stop), shape)
        stores = [self._store(mean, place) for (mean, _), place in zip(means, places, strict=True)]
        heads = fixed(self.types.keys.shape[1]) // self.num_heads
        grid = (heads, self.num_parts, self._num_tiles())
        values = () if self.at.values is None else (self.at.values,)
        read = (self.at.queries, self.at.keys, *values)
        where = (self.at.tables, self.at.starts, self.at.lengths)
        pointers = (*read, *where, *self.at.scales, self.at.out)
        body = Region((head, part, number), (bind, *stores), ())
        return Kernel("paged_attention", grid, pointers, body)

    def _store(self, mean: Node, place: tuple[Span, Span]) -> Node:
        result = self.tiles.cast(mean, self.types.queries.dtype)
        shaped = self.tiles.reshaped(result, (self.tokens, self.group, self.value_size))
        written = whole(self.indices, self.value_size)
        return self.tiles.store(self.at.out, shaped, (*place, written))

    def _num_tiles(self) -> Dim:
        """Every sequence has its whole tiles and at most one more."""
        return self.types.queries.shape[0] // self.most_tokens + self.types.lengths.shape[0]

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
        index, add, most = self.indices, self.tiles.add, self.most_tokens
        zero, size = index.number(0), index.number(most)

        def body(sequence: Node, before: Node, *found: Node) -> list[Node]:
            first, count = self._new_tokens(sequence)
            rounded = index.add(count, index.number(most - 1))
            after = index.add(before, index.divide(rounded, most))
            here = add("and", add("le", before, number), add("lt", number, after))
            skipped = index.multiply(index.subtract(number, before), most)
            tokens = index.smaller(index.subtract(count, skipped), size)
            mine = (sequence, index.add(first, skipped), tokens)
            return [after, *(add("where", here, m, f) for m, f in zip(mine, found, strict=True))]

        num_sequences = index.number(self.types.lengths.shape[0])
        found = self.tiles.range(zero, num_sequences, [zero, zero, zero, zero], body)
        _, sequence, first, tokens = found
        start, count = self._new_tokens(sequence)
        past = index.subtract(self._number_at(self.at.lengths, sequence), count)
        return _Tile(sequence, first, tokens, index.add(past, index.subtract(first, start)))

    def _steps(self, tile: _Tile) -> tuple[Node, Node, Node, Node]:
        """The first step any row sees, the first not all see, the end, and the end in blocks.

        Equal without rows. Steps are counted from the start of the sequence, also with a window:
        the sums of a token then do not depend on how its prompt was cut into chunks.
        """
        index = self.indices
        last = index.add(tile.position, tile.tokens)
        stop_block = index.divide(index.add(last, index.number(BLOCK - 1)), BLOCK)
        stop = index.divide(index.add(last, index.number(STEP - 1)), STEP)
        first = index.number(0)
        edge = index.divide(index.add(tile.position, index.number(1)), STEP)
        if self.window:
            oldest = index.subtract(tile.position, index.number(self.window - 1))
            first = index.divide(self.tiles.add("max", oldest, first), STEP)
            edge = first
        empty = self.tiles.add("eq", tile.tokens, index.number(0))
        edge, stop = (self.tiles.add("where", empty, first, end) for end in (edge, stop))
        return first, edge, stop, stop_block


def _heads_of_a_tile(types: AttentionTypes) -> int:
    """How many heads a tile goes through in turns: two of an int8 cache, if they lie in one page.

    Memory is fetched ahead within a page, so the second head finds its keys under way.
    """
    heads, *of_head = map(fixed, types.keys.shape[1:])
    is_half = types.key_scales is not None and 2 * math.prod(of_head) <= PAGE
    return 2 if is_half and heads % 2 == 0 else 1


@dataclass(frozen=True, slots=True)
class _Cache:
    """The blocks of one sequence; a `Source`."""

    program: _Program
    tile: _Tile
    head: Node
    rows: Node
    stop_block: Node

    def numbers(self, step: Node) -> Node:
        """What lies behind the last block may be another sequence's: its infinity would spread."""
        tiles, index = self.program.tiles, self.program.indices
        first = index.multiply(step, STEP_BLOCKS)
        window = (At(self.tile.sequence), Span(first, STEP_BLOCKS))
        places = tiles.cast(tiles.read(self.program.at.tables, window), DType.INT64)
        own = tiles.add("lt", index.add(index.count(STEP_BLOCKS), first), self.stop_block)
        return tiles.add("where", own, places, tiles.fill(-1, DType.INT64, (STEP_BLOCKS,)))

    def scores(self, numbers: Node, step: Node, *, is_edge: bool) -> Node:
        tiles = self.program.tiles
        product = product_with_keys(tiles, self.rows, self._blocks(self.program.at.keys, numbers))
        scaled = tiles.add("mul", product, tiles.fill(self.program.scale, DType.FLOAT32, ()))
        scaled = self._rescaled(scaled, numbers, 0)
        if not is_edge:
            return scaled
        return tiles.add("where", self._seen(step), scaled, tiles.fill(HIDDEN, DType.FLOAT32, ()))

    def weighted(self, weights: Node, numbers: Node) -> Node:
        values = self.program.at.values
        weights = self._rescaled(weights, numbers, 1)
        if values is None:
            blocks = self._turned(self._blocks(self.program.at.keys, numbers))
        else:
            blocks = self._blocks(values, numbers)
        return product_with_values(self.program.tiles, weights, blocks)

    def _turned(self, keys: Node) -> Node:
        """Key blocks [n, D/p, 16, p] as value blocks [n, 16/p, size, p] of their first part."""
        tiles, (count, _, tokens, pack) = self.program.tiles, keys.shape
        lines, size = self.program.value_size // fixed(pack), self.program.value_size
        first = tiles.builder.add("slice", (keys,), axis=1, start=0, stop=lines, step=1)
        split = tiles.reshaped(first, (count, lines, tokens // fixed(pack), pack, pack))
        turned = tiles.builder.add("permute", (split,), order=(0, 2, 1, 4, 3))
        return tiles.reshaped(turned, (count, tokens // fixed(pack), size, pack))

    def _blocks(self, pointer: Node, numbers: Node) -> Node:
        inner = (whole(self.program.indices, size) for size in pointer.shape[2:])
        tiles = self.program.tiles
        blocks = tiles.read(pointer, (Each(numbers), At(self.head), *inner))
        return tiles.cast(blocks, self.program.types.queries.dtype)

    def _rescaled(self, tile: Node, numbers: Node, which: int) -> Node:
        """Columns of a tile times the scales that int8 keys or values were written with."""
        if not self.program.at.scales:
            return tile
        tiles, pointer = self.program.tiles, self.program.at.scales[which]
        window = (Each(numbers), At(self.head), whole(self.program.indices, BLOCK))
        scales = tiles.reshaped(tiles.read(pointer, window), (1, STEP))
        # A sum over one element: reductions are kept, so the scales are gathered once.
        once = tiles.builder.add("reduce", (scales,), axes=(0,), kind="sum")
        return tiles.add("mul", tile, tiles.rows(once, self.program.num_rows))

    def _seen(self, step: Node) -> Node:
        """Which keys of a step each row sees; the query heads of one token share a position."""
        program, tiles, index = self.program, self.program.tiles, self.program.indices
        tokens = tiles.columns(index.count(program.tokens), program.group)
        position = index.add(tiles.reshaped(tokens, (program.num_rows,)), self.tile.position)
        key = index.add(index.count(STEP), index.multiply(step, STEP))
        column = tiles.rows(key, program.num_rows)
        seen = tiles.add("le", column, tiles.columns(position, STEP))
        if program.window:
            oldest = index.subtract(position, index.number(program.window))
            seen = tiles.add("and", seen, tiles.add("gt", column, tiles.columns(oldest, STEP)))
        return seen
