"""Attention over whole tensors: keys and values packed into blocks once, then a running softmax.

A query tile is some queries of all heads of one group, so grouped queries never repeat keys. The
log of each row's sum of exponentials comes with the result: the gradient needs nothing else.
"""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.operations import pack_width
from banyan.compiler.ir.symbols import Dim, ceil_divide, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.programs.running_softmax import (
    BLOCK,
    HIDDEN,
    MOST_ROWS,
    attend,
    fixed,
    product_with_keys,
    product_with_values,
)
from banyan.compiler.tiling.indices import Indices
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Each, Entry, Span, whole


@dataclass(frozen=True, slots=True)
class WholeAttention:
    """Types of the arguments of `attention_forward`, its attributes, and blocks taken at a time."""

    queries: TensorType
    keys: TensorType
    values: TensorType
    mask: TensorType | None
    causal: bool
    scale: float
    step_blocks: int


def packed_type(rows: TensorType, layout: str) -> TensorType:
    """The type of keys or values [B, G, T, D] in blocks [B, G, T/16, ...] like those of a cache."""
    batch, groups, length, size = rows.shape
    pack = pack_width(rows.dtype)
    block = (size // pack, BLOCK, pack) if layout == "keys" else (BLOCK // pack, size, pack)
    return TensorType((batch, groups, ceil_divide(length, BLOCK), *block), rows.dtype)


def in_pairs(rows: TensorType) -> TensorType:
    """Rows [B, G, T, D] seen as [B, G, T, D/p, p]."""
    pack = pack_width(rows.dtype)
    return TensorType((*rows.shape[:3], fixed(rows.shape[3]) // pack, pack), rows.dtype)


def pack_kernel(builder: Builder, rows: TensorType, layout: str) -> Kernel:
    """Pointers (rows [B, G, T, D/p, p], out): one program for each block; zeros behind the rows."""
    tiles = Tiles(builder)
    indices = tiles.indices
    target_type = packed_type(rows, layout)
    source_type = in_pairs(rows)
    lines, pack = (fixed(size) for size in source_type.shape[3:])
    source = builder.pointer("rows", source_type, "read")
    target = builder.pointer("out", target_type, "write")
    batch, group, block = (tiles.parameter() for _ in range(3))
    span = Span(indices.multiply(block, BLOCK), BLOCK)
    window = (At(batch), At(group), span, whole(indices, lines), whole(indices, pack))
    loaded = tiles.read(source, window)
    if layout == "keys":
        packed = builder.add("permute", (loaded,), order=(1, 0, 2))
    else:
        split = tiles.reshaped(loaded, (BLOCK // pack, pack, rows.shape[3]))
        packed = builder.add("permute", (split,), order=(0, 2, 1))
    inner = (whole(indices, dim) for dim in target_type.shape[3:])
    store = tiles.store(target, packed, (At(batch), At(group), At(block), *inner))
    body = Region((batch, group, block), (store,), ())
    return Kernel(f"pack_{layout}", target_type.shape[:3], (source, target), body)


def whole_attention_kernel(builder: Builder, types: WholeAttention) -> Kernel:
    """Pointers (queries, packed keys, packed values, mask?, out, lse)."""
    return _Program(Tiles(builder), types).kernel()


class _Program:
    """The kernel, and the source of its keys and values."""

    def __init__(self, tiles: Tiles, types: WholeAttention) -> None:
        self.tiles = tiles
        self.types = types
        self.step_blocks = types.step_blocks
        self.step = BLOCK * types.step_blocks
        pointer = tiles.builder.pointer
        queries, values = types.queries, types.values
        self.queries = pointer("queries", queries, "read")
        self.keys = pointer("keys", packed_type(types.keys, "keys"), "read")
        self.values = pointer("values", packed_type(values, "values"), "read")
        self.mask = None if types.mask is None else pointer("mask", types.mask, "read")
        out = TensorType((*queries.shape[:3], values.shape[3]), queries.dtype)
        self.out = pointer("out", out, "write")
        self.lse = pointer("lse", TensorType(queries.shape[:3], DType.FLOAT32), "write")
        self.group = fixed(queries.shape[1]) // fixed(types.keys.shape[1])
        self.most = max(1, MOST_ROWS // self.group)
        self.tokens = symbol("query_tokens", 1, self.most)
        self.num_rows: Dim = self.tokens * self.group
        self.batch, self.head, self.number = (tiles.parameter() for _ in range(3))
        self.first = self.indices.multiply(self.number, self.most)
        left = self.indices.subtract(self.indices.number(queries.shape[2]), self.first)
        self.count = self.indices.smaller(left, self.indices.number(self.most))
        self.stop = self.indices.number(types.keys.shape[2])
        if types.causal:
            self.stop = self.indices.smaller(self.indices.add(self.first, self.count), self.stop)

    @property
    def indices(self) -> Indices:
        return self.tiles.indices

    def kernel(self) -> Kernel:
        tiles, index, types = self.tiles, self.indices, self.types
        batch, _, length, size = types.queries.shape
        bind = tiles.builder.add(
            "bind", (self.count,), name="query_tokens", minimum=1, maximum=self.most
        )
        place = (
            At(self.batch),
            Span(index.multiply(self.head, self.group), self.group),
            Span(self.first, self.tokens),
        )
        loaded = tiles.read(self.queries, (*place, whole(index, size)))
        self.rows = tiles.reshaped(loaded, (self.num_rows, size))
        width = fixed(types.values.shape[3])
        ((mean, lse),) = attend(tiles, [self], self._steps(), (self.num_rows, width))
        narrow = tiles.reshaped(
            tiles.cast(mean, types.queries.dtype), (self.group, self.tokens, width)
        )
        stores = (
            tiles.store(self.out, narrow, (*place, whole(index, width))),
            tiles.store(self.lse, tiles.reshaped(lse, (self.group, self.tokens)), place),
        )
        grid = (batch, types.keys.shape[1], ceil_divide(length, self.most))
        read = (self.queries, self.keys, self.values, *([self.mask] if self.mask else []))
        body = Region((self.batch, self.head, self.number), (bind, *stores), ())
        return Kernel("whole_attention", grid, (*read, self.out, self.lse), body)

    def _steps(self) -> tuple[Node, Node, Node]:
        index, edge = self.indices, self.stop
        if self.types.causal:
            edge = index.smaller(index.add(self.first, index.number(1)), edge)
        rounded = index.add(self.stop, index.number(self.step - 1))
        return index.number(0), index.divide(edge, self.step), index.divide(rounded, self.step)

    def numbers(self, step: Node) -> Node:
        """Blocks of keys that no row sees are not even multiplied."""
        tiles, index = self.tiles, self.indices
        places = index.add(index.count(self.step_blocks), index.multiply(step, self.step_blocks))
        if not self.types.causal:
            return places
        end = index.divide(index.add(self.stop, index.number(BLOCK - 1)), BLOCK)
        nowhere = tiles.fill(-1, DType.INT64, (self.step_blocks,))
        return tiles.add("where", tiles.add("lt", places, end), places, nowhere)

    def scores(self, numbers: Node, step: Node, *, is_edge: bool) -> Node:
        tiles = self.tiles
        product = product_with_keys(tiles, self.rows, self._blocks(self.keys, numbers))
        scores = tiles.add("mul", product, tiles.fill(self.types.scale, DType.FLOAT32, ()))
        hidden = tiles.fill(HIDDEN, DType.FLOAT32, ())
        mask = self._mask(step)
        if mask is not None:
            is_bool = mask.dtype is DType.BOOL
            scores = (
                tiles.add("where", mask, scores, tiles.grown(hidden, scores.shape))
                if is_bool
                else tiles.add("add", scores, mask)
            )
        return tiles.add("where", self._seen(step), scores, hidden) if is_edge else scores

    def weighted(self, weights: Node, numbers: Node) -> Node:
        return product_with_values(self.tiles, weights, self._blocks(self.values, numbers))

    def _blocks(self, pointer: Node, numbers: Node) -> Node:
        inner = (whole(self.indices, size) for size in pointer.shape[3:])
        return self.tiles.read(pointer, (At(self.batch), At(self.head), Each(numbers), *inner))

    def _seen(self, step: Node) -> Node:
        """Which keys are there, and not behind the query where that matters."""
        tiles, index = self.tiles, self.indices
        key = index.add(index.count(self.step), index.multiply(step, self.step))
        column = tiles.rows(key, self.num_rows)
        seen = tiles.add("lt", column, index.number(self.types.keys.shape[2]))
        if not self.types.causal:
            return seen
        tokens = tiles.rows(index.count(self.tokens), self.group)
        position = index.add(tiles.reshaped(tokens, (self.num_rows,)), self.first)
        return tiles.add("and", seen, tiles.add("le", column, tiles.columns(position, self.step)))

    def _mask(self, step: Node) -> Node | None:
        """The mask of a step [rows, keys]; what it says once for all it says for each."""
        if self.mask is None:
            return None
        tiles, index = self.tiles, self.indices
        zero: Entry = At(index.number(0))
        asked: tuple[Entry, ...] = (
            At(self.batch),
            Span(index.multiply(self.head, self.group), self.group),
            Span(self.first, self.tokens),
            Span(index.multiply(step, self.step), self.step),
        )
        window: list[Entry] = []
        for size, entry in zip(self.mask.shape, asked, strict=True):
            window.append(zero if size == 1 else entry)
        loaded = tiles.read(self.mask, tuple(window))
        wanted: tuple[Dim, ...] = (self.group, self.tokens, self.step)
        kept = tuple(
            1 if have == 1 else want for have, want in zip(self.mask.shape[1:], wanted, strict=True)
        )
        grown = tiles.grown(tiles.reshaped(loaded, kept), wanted)
        return tiles.reshaped(grown, (self.num_rows, self.step))
