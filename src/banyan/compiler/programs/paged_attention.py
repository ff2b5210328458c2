"""Attention of new tokens over a paged cache: one program text for prefill chunks and decode.

Grid (kv heads, parts of a group, query tiles): threads get contiguous parts of it, and late tiles
of a prompt see many more keys than early ones, so whole heads share the work evenly. A query tile
is some new tokens of one sequence with the query heads of the group, so a decode step and a prefill
chunk differ only in the number of rows. Groups too large for one tile are cut into parts.

With a latent cache (multi-head latent attention, DeepSeek-AI 2024, arXiv:2405.04434) keys and
values are one tensor: a value is the first part of its key, turned to lie as values do.
"""

from dataclasses import replace

from banyan.compiler.ir.cached import quantized_format
from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType
from banyan.compiler.programs.attention_types import (
    AttentionOptions,
    AttentionTypes,
    heads_of_a_tile,
)
from banyan.compiler.programs.cached_blocks import Attended, CachedBlocks, Pointers, QueryTile
from banyan.compiler.programs.running_softmax import BLOCK, MOST_ROWS, attend, fixed, mean_of
from banyan.compiler.programs.split_keys import (
    SPLIT,
    empty_state,
    most_splits,
    partial_types,
    stretch_seen,
    with_split,
)
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Span, whole

MOST_LATENT_ROWS = 128
"""Rows of a query tile over a latent cache: each of its values is turned once for all of them."""


def paged_attention_kernel(
    builder: Builder, types: AttentionTypes, options: AttentionOptions
) -> Kernel:
    """The kernel with the pointers of `AttentionTypes` and the result."""
    return _Program(Tiles(builder), types, options).kernel()


class _Program:
    def __init__(self, tiles: Tiles, types: AttentionTypes, options: AttentionOptions) -> None:
        self.tiles = tiles
        self.types = types
        self.window = options.window
        self.value_size = options.value_size
        self.step = BLOCK * options.step_blocks
        pointer = tiles.builder.pointer
        queries = types.queries
        self.num_splits = most_splits(types.tables.shape[1])
        heads, sequences = fixed(queries.shape[1]), types.lengths.shape[0]
        partial = partial_types(self.num_splits, sequences, heads, self.value_size)
        self.at = Pointers(
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
            tuple(
                pointer(name, kind, "write")
                for name, kind in zip(("means", "logs"), partial, strict=True)
                if self.num_splits != 1
            ),
        )
        self.head_size = fixed(queries.shape[2])
        whole_group = fixed(queries.shape[1]) // fixed(types.keys.shape[1])
        most = MOST_ROWS if types.values is not None else MOST_LATENT_ROWS
        sizes = range(1, min(most, whole_group) + 1)
        self.group = max(size for size in sizes if whole_group % size == 0)
        self.num_parts = whole_group // self.group
        self.num_heads = heads_of_a_tile(types)
        self.most_tokens = max(1, MOST_ROWS // self.group)
        self.tokens = symbol("query_tokens", 0, self.most_tokens)
        form = quantized_format(types.keys.dtype)
        self.attended = Attended(tiles, self.at, options, form, self.group, self.tokens)
        self.num_rows = self.attended.num_rows

    @property
    def indices(self) -> Indices:
        return self.tiles.indices

    def kernel(self) -> Kernel:
        head, part, number = (self.tiles.parameter() for _ in range(3))
        split = self.tiles.parameter() if self.num_splits != 1 else self.indices.number(0)
        tile, splits, is_partial = self._split(self._find(number), split)
        bind = self.tiles.builder.add(
            "bind", (tile.tokens,), name="query_tokens", minimum=0, maximum=self.most_tokens
        )
        parts = [self._part(head, part, i) for i in range(self.num_heads)]
        sources = [self._source(tile, *part) for part in parts]
        means = self._attend(tile, sources, splits)
        stores: list[Node] = []
        for (_, group), (mean, log) in zip(parts, means, strict=True):
            stores += self._stores(tile, (split, group), (mean, log), is_partial)
        heads = fixed(self.types.keys.shape[1]) // self.num_heads
        grid: tuple[Dim, ...] = (heads, self.num_parts, self._num_tiles())
        values = () if self.at.values is None else (self.at.values,)
        read = (self.at.queries, self.at.keys, *values)
        where = (self.at.tables, self.at.starts, self.at.lengths)
        pointers = (*read, *where, *self.at.scales, self.at.out, *self.at.partial)
        parameters: tuple[Node, ...] = (head, part, number)
        if self.num_splits != 1:
            grid, parameters = (*grid, self.num_splits), (*parameters, split)
        return Kernel("paged_attention", grid, pointers, Region(parameters, (bind, *stores), ()))

    def _part(self, head: Node, part: Node, i: int) -> tuple[Node, Span]:
        """The i-th head of a tile, and its query heads."""
        index = self.indices
        own = index.add(index.multiply(head, self.num_heads), index.number(i))
        number = index.add(index.multiply(own, self.num_parts), part)
        return own, Span(index.multiply(number, self.group), self.group)

    def _source(self, tile: QueryTile, head: Node, group: Span) -> CachedBlocks:
        size = whole(self.indices, self.head_size)
        loaded = self.tiles.read(self.at.queries, (Span(tile.first, self.tokens), group, size))
        rows = self.tiles.reshaped(loaded, (self.num_rows, self.head_size))
        return CachedBlocks(self.attended, tile, head, rows)

    def _split(
        self, tile: QueryTile, split: Node
    ) -> tuple[QueryTile, tuple[Node, Node], Node | None]:
        """The tile, its splits, and whether others work on the rest of the keys of its token.

        A tile without tokens, or whose keys others see to, gets no tokens and no splits.
        """
        index, add = self.indices, self.tiles.add
        last = index.add(tile.position, tile.tokens)
        first, stop = stretch_seen(index, tile.position, last, self.window, SPLIT)
        stop = add("where", add("eq", tile.tokens, index.number(0)), first, stop)
        if self.num_splits == 1:
            return tile, (first, stop), None
        is_partial = add("eq", tile.new_tokens, index.number(1))
        is_partial = add("and", is_partial, add("gt", index.subtract(stop, first), index.number(1)))
        own = index.add(first, split)
        is_mine = add("eq", split, index.number(0))
        is_mine = add("or", is_mine, add("and", is_partial, add("lt", own, stop)))
        first = add("where", is_partial, own, first)
        stop = add("where", is_partial, index.add(own, index.number(1)), stop)
        stop = add("where", is_mine, stop, first)
        tokens = add("where", is_mine, tile.tokens, index.number(0))
        return replace(tile, tokens=tokens), (first, stop), is_partial

    def _attend(
        self, tile: QueryTile, sources: list[CachedBlocks], splits: tuple[Node, Node]
    ) -> list[tuple[Node, Node]]:
        """Means and logs of each source over all keys of these splits."""
        tiles, index = self.tiles, self.indices
        shape = self.num_rows, self.value_size
        first, edge, stop = self._steps(tile)
        if self.num_splits == 1:
            return attend(tiles, sources, (first, edge, stop), shape)
        empty = empty_state(tiles, shape)

        def body(split: Node, *states: Node) -> list[Node]:
            begin = index.multiply(split, SPLIT // self.step)
            end = index.smaller(index.add(begin, index.number(SPLIT // self.step)), stop)
            begin = tiles.add("max", begin, first)
            middle = index.smaller(tiles.add("max", edge, begin), end)
            found = attend(tiles, sources, (begin, middle, end), shape)
            merged: list[Node] = []
            for i, (mean, log) in enumerate(found):
                state = list(states[len(empty) * i : len(empty) * (i + 1)])
                merged += with_split(tiles, state, mean, log)
            return merged

        states = tiles.range(*splits, empty * len(sources), body)
        starts = range(0, len(states), len(empty))
        return [mean_of(tiles, states[i : i + len(empty)]) for i in starts]

    def _stores(
        self,
        tile: QueryTile,
        place: tuple[Node, Span],
        found: tuple[Node, Node],
        is_partial: Node | None,
    ) -> list[Node]:
        """Write a result where it belongs: indices beyond a tensor are dropped."""
        tiles, index, (split, group), (mean, log) = self.tiles, self.indices, place, found
        written = whole(index, self.value_size)
        shape = (self.tokens, self.group)
        first = tile.first
        if is_partial is not None:
            outside = index.number(self.types.queries.shape[0])
            first = tiles.add("where", is_partial, outside, first)
        result = tiles.reshaped(
            tiles.cast(mean, self.types.queries.dtype), (*shape, self.value_size)
        )
        stores = [tiles.store(self.at.out, result, (Span(first, self.tokens), group, written))]
        if is_partial is not None:
            means, logs = self.at.partial
            outside = index.number(self.types.lengths.shape[0])
            row = Span(tiles.add("where", is_partial, tile.sequence, outside), self.tokens)
            where = (At(split), row, group)
            mean = tiles.reshaped(mean, (*shape, self.value_size))
            stores.append(tiles.store(means, mean, (*where, written)))
            stores.append(tiles.store(logs, tiles.reshaped(log, shape), where))
        return stores

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

    def _find(self, number: Node) -> QueryTile:
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
        return QueryTile(
            sequence, count, first, tokens, index.add(past, index.subtract(first, start))
        )

    def _steps(self, tile: QueryTile) -> tuple[Node, Node, Node]:
        """The first step any row sees, the first not all see, and the end.

        Steps are counted from the start of the sequence, also with a window: the sums of a token
        then do not depend on how its prompt was cut into chunks.
        """
        index = self.indices
        last = index.add(tile.position, tile.tokens)
        first, stop = stretch_seen(index, tile.position, last, self.window, self.step)
        edge = index.divide(index.add(tile.position, index.number(1)), self.step)
        edge = first if self.window else edge
        empty = self.tiles.add("eq", tile.tokens, index.number(0))
        edge, stop = (self.tiles.add("where", empty, first, end) for end in (edge, stop))
        return first, edge, stop
