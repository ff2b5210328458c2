"""Keys and values of one sequence where they lie: in blocks, as floats or quantised.

A quantised row is scale * number (+ middle); see `ir.cached`. Products are with the numbers; scales
apply to whole scores, and to weights before they are multiplied with values. A middle adds to each
score the sum of the query times it, and to each result the sum of all weights times theirs.
"""

from dataclasses import dataclass

from banyan.compiler.ir.cached import NIBBLE_MIDDLE, CacheFormat
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.nibbles import unpacked
from banyan.compiler.ir.symbols import Dim
from banyan.compiler.ir.types import DType
from banyan.compiler.programs.attention_types import AttentionOptions
from banyan.compiler.programs.running_softmax import (
    BLOCK,
    HIDDEN,
    along_row,
    fixed,
    product_with_keys,
    product_with_values,
)
from banyan.compiler.programs.split_keys import first_key
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Each, Span, whole


@dataclass(frozen=True, slots=True)
class Pointers:
    """What a program of paged attention reads and writes."""

    queries: Node
    keys: Node
    values: Node | None
    tables: Node
    starts: Node
    lengths: Node
    scales: tuple[Node, ...]
    out: Node
    partial: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class QueryTile:
    """One query tile: its sequence, the new tokens of that, its own, and where the first stands."""

    sequence: Node
    new_tokens: Node
    first: Node
    tokens: Node
    position: Node


@dataclass(frozen=True, slots=True)
class Attended:
    """What all tiles of one program have in common.

    Attributes:
        tiles: writes the nodes.
        at: what is read and written.
        options: of the attention.
        form: of the cache; None for plain floats.
        group: query heads of a tile.
        tokens: of a tile.
    """

    tiles: Tiles
    at: Pointers
    options: AttentionOptions
    form: CacheFormat | None
    group: int
    tokens: Dim

    @property
    def indices(self) -> Indices:
        """Writes index arithmetic."""
        return self.tiles.indices

    @property
    def num_rows(self) -> Dim:
        """Queries of a tile."""
        return self.tokens * self.group

    @property
    def step(self) -> int:
        """Keys of a step."""
        return BLOCK * self.options.step_blocks


@dataclass(frozen=True, slots=True)
class CachedBlocks:
    """The blocks of one sequence; a `Source`.

    Attributes:
        program: what all of them have in common.
        tile: the queries.
        head: whose keys and values.
        rows: its queries [rows, D].
    """

    program: Attended
    tile: QueryTile
    head: Node
    rows: Node

    def numbers(self, step: Node) -> Node:
        """What lies behind the last block may be another sequence's: its infinity would spread.

        Nor need there be anything before the window of the first token.
        """
        tiles, index = self.program.tiles, self.program.indices
        first = index.multiply(step, self.program.options.step_blocks)
        last = index.add(self.tile.position, self.tile.tokens)
        stop = index.divide(index.add(last, index.number(BLOCK - 1)), BLOCK)
        window = (At(self.tile.sequence), Span(first, self.program.options.step_blocks))
        places = tiles.cast(tiles.read(self.program.at.tables, window), DType.INT64)
        column = index.add(index.count(self.program.options.step_blocks), first)
        own = tiles.add("lt", column, stop)
        if self.program.options.window:
            oldest = first_key(index, self.tile.position, self.program.options.window)
            own = tiles.add("and", own, tiles.add("ge", column, index.divide(oldest, BLOCK)))
        return tiles.add(
            "where", own, places, tiles.fill(-1, DType.INT64, (self.program.options.step_blocks,))
        )

    def scores(self, numbers: Node, step: Node, *, is_edge: bool) -> Node:
        """Scaled products with the keys of a step; see `Source`."""
        tiles = self.program.tiles
        product = product_with_keys(tiles, self.rows, self._blocks(self.program.at.keys, numbers))
        scaled = tiles.add(
            "mul", product, tiles.fill(self.program.options.scale, DType.FLOAT32, ())
        )
        scaled = self._rescaled(scaled, numbers, 0)
        middle = self._beside(numbers, 0, 1)
        if middle is not None:
            offset = tiles.columns(self._sums(), self.program.step)
            moved = tiles.add("mul", offset, tiles.rows(middle, self.program.num_rows))
            scaled = tiles.add("add", scaled, moved)
        if not is_edge:
            return scaled
        return tiles.add("where", self._seen(step), scaled, tiles.fill(HIDDEN, DType.FLOAT32, ()))

    def weighted(self, weights: Node, numbers: Node) -> Node:
        """Weights times the values of a step; see `Source`."""
        tiles, values = self.program.tiles, self.program.at.values
        if values is None:
            blocks = self._turned(self._blocks(self.program.at.keys, numbers))
            return product_with_values(tiles, weights, blocks)
        blocks = self._blocks(values, numbers)
        if self.program.form is not None and self.program.form.numbers == 2:
            blocks = _token_pairs(tiles, blocks)
        product = product_with_values(tiles, self._rescaled(weights, numbers, 1), blocks)
        middle = self._beside(numbers, 1, 1)
        if middle is None:
            return product
        moved = tiles.add("mul", weights, tiles.rows(middle, self.program.num_rows))
        offset = along_row(tiles, moved, "sum")
        return tiles.add("add", product, tiles.columns(offset, self.program.options.value_size))

    def _turned(self, keys: Node) -> Node:
        """Key blocks [n, D/p, 16, p] as value blocks [n, 16/p, size, p] of their first part."""
        tiles, (count, _, tokens, pack) = self.program.tiles, keys.shape
        lines, size = (
            self.program.options.value_size // fixed(pack),
            self.program.options.value_size,
        )
        first = tiles.builder.add("slice", (keys,), axis=1, start=0, stop=lines, step=1)
        split = tiles.reshaped(first, (count, lines, tokens // fixed(pack), pack, pack))
        turned = tiles.builder.add("permute", (split,), order=(0, 2, 1, 4, 3))
        return tiles.reshaped(turned, (count, tokens // fixed(pack), size, pack))

    def _blocks(self, pointer: Node, numbers: Node) -> Node:
        """Blocks as the queries' type; of int4 with a row's numbers side by side."""
        inner = (whole(self.program.indices, size) for size in pointer.shape[2:])
        tiles, dtype = self.program.tiles, self.program.at.queries.dtype
        blocks = tiles.read(pointer, (Each(numbers), At(self.head), *inner))
        if self.program.form is None or self.program.form.numbers == 1:
            return tiles.cast(blocks, dtype)
        middle = tiles.fill(NIBBLE_MIDDLE, dtype, ())
        return tiles.add("sub", tiles.cast(unpacked(blocks), dtype), middle)

    def _sums(self) -> Node:
        """The sum of each query, times the factor of scores."""
        tiles = self.program.tiles
        total = along_row(tiles, tiles.cast(self.rows, DType.FLOAT32), "sum")
        return tiles.add("mul", total, tiles.fill(self.program.options.scale, DType.FLOAT32, ()))

    def _beside(self, numbers: Node, which: int, part: int) -> Node | None:
        """A number beside each row of keys (0) or values (1); None where there is none."""
        program, tiles = self.program, self.program.tiles
        if program.form is None or part >= program.form.parts:
            return None
        index, pointer = program.indices, program.at.scales[which]
        place = (At(self.head), At(index.number(part)), whole(index, BLOCK))
        read = tiles.reshaped(tiles.read(pointer, (Each(numbers), *place)), (1, program.step))
        # A sum over one element: reductions are kept, so the numbers are gathered once.
        return tiles.builder.add("reduce", (read,), axes=(0,), kind="sum")

    def _rescaled(self, tile: Node, numbers: Node, which: int) -> Node:
        """Columns of a tile times the scales that keys or values were written with."""
        scales = self._beside(numbers, which, 0)
        if scales is None:
            return tile
        tiles = self.program.tiles
        return tiles.add("mul", tile, tiles.rows(scales, self.program.num_rows))

    def _seen(self, step: Node) -> Node:
        """Which keys of a step each row sees; the query heads of one token share a position."""
        program, tiles, index = self.program, self.program.tiles, self.program.indices
        tokens = tiles.columns(index.count(program.tokens), program.group)
        position = index.add(tiles.reshaped(tokens, (program.num_rows,)), self.tile.position)
        key = index.add(index.count(self.program.step), index.multiply(step, self.program.step))
        column = tiles.rows(key, program.num_rows)
        seen = tiles.add("le", column, tiles.columns(position, self.program.step))
        if program.options.window:
            oldest = index.subtract(position, index.number(program.options.window))
            seen = tiles.add(
                "and", seen, tiles.add("gt", column, tiles.columns(oldest, self.program.step))
            )
        return seen


def _token_pairs(tiles: Tiles, blocks: Node) -> Node:
    """Blocks of rows [n, 16, D/2, 2] as blocks of values [n, 8, D, 2], tokens in pairs."""
    count, tokens, halves, width = blocks.shape
    size = fixed(halves) * fixed(width)
    rows = tiles.reshaped(blocks, (count, fixed(tokens) // 2, 2, size))
    return tiles.builder.add("permute", (rows,), order=(0, 1, 3, 2))
