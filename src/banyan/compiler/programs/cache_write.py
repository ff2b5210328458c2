"""Writing new keys or values into a paged cache, in place: one program for each token.

Layouts as in `compiler.capture.torch_operations`. A negative slot names a block before the first,
and what lies outside a tensor is never written.

The first token of a block clears the values behind the new ones: attention multiplies them by zero,
and what another sequence left there may be infinite.
"""

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Span, Window, whole

BLOCK = 16


def cache_write_kernel(
    builder: Builder, cache: TensorType, rows: TensorType, slots: TensorType, layout: str
) -> Kernel:
    """The kernel with pointers (cache, rows [T,H,D], slots [T]); `layout` is keys or values."""
    tiles = Tiles(builder)
    indices = tiles.indices
    target = builder.pointer("cache", cache, "update")
    source = builder.pointer("rows", rows, "read")
    places = builder.pointer("slots", slots, "read")
    token = tiles.parameter()
    tokens, heads, size = rows.shape
    slot = tiles.cast(tiles.read(places, (At(token),)), DType.INT64)
    value = tiles.read(source, (At(token), whole(indices, heads), whole(indices, size)))
    store = _row_store(tiles, (target, value), slot, layout)
    cleared = () if layout == "keys" else _clear(tiles, (target, places), (token, slot))
    body = Region((token,), (*cleared, store), ())
    return Kernel(f"cache_write_{layout}", (tokens,), (target, source, places), body)


def cache_write_quantized_kernel(
    builder: Builder, types: tuple[TensorType, ...], layout: str
) -> Kernel:
    """The same for int8, with pointers (cache, scales [blocks,H,16], rows, slots)."""
    tiles = Tiles(builder)
    indices = tiles.indices
    cache, _, rows, _ = types
    names = (("cache", "update"), ("scales", "update"), ("rows", "read"), ("slots", "read"))
    pointers = tuple(
        builder.pointer(name, kind, access)
        for (name, access), kind in zip(names, types, strict=True)
    )
    target, factors, source, places = pointers
    token = tiles.parameter()
    tokens, heads, size = rows.shape
    slot = tiles.cast(tiles.read(places, (At(token),)), DType.INT64)
    window = (At(token), whole(indices, heads), whole(indices, size))
    value = tiles.cast(tiles.read(source, window), DType.FLOAT32)
    opposite = tiles.add("max", value, builder.add("neg", (value,)))
    largest = builder.add("reduce", (opposite,), axes=(1,), kind="max")
    number = tiles.fill(127, DType.FLOAT32, (heads,))
    is_zero = tiles.add("eq", largest, tiles.fill(0, DType.FLOAT32, (heads,)))
    factor = tiles.add("div", largest, number)
    factor = tiles.add("where", is_zero, tiles.fill(1, DType.FLOAT32, (heads,)), factor)
    scaled = tiles.add("div", value, tiles.columns(factor, size))
    moved = tiles.add("add", scaled, tiles.fill(0.5, DType.FLOAT32, ()))
    rounded = tiles.cast(builder.add("floor", (moved,)), cache.dtype)
    store = _row_store(tiles, (target, rounded), slot, layout)
    start = _behind_new(tiles, places, token, slot)
    block, offset = At(indices.divide(slot, BLOCK)), At(indices.remainder(slot, BLOCK))
    zeros = tiles.fill(0, DType.FLOAT32, (heads, BLOCK))
    all_heads = whole(indices, heads)
    effects = (
        tiles.store(factors, zeros, (block, all_heads, Span(start, BLOCK))),
        tiles.store(factors, factor, (block, all_heads, offset)),
        store,
    )
    body = Region((token,), effects, ())
    return Kernel(f"cache_write_quantized_{layout}", (tokens,), pointers, body)


def _clear(tiles: Tiles, pointers: tuple[Node, Node], where: tuple[Node, Node]) -> tuple[Node, ...]:
    """Zero the values of a new block that no token of this launch writes: they are its last ones.

    Whole lines at once; the first of them may share its line with the last new token.
    """
    (target, places), (token, slot) = pointers, where
    indices, builder = tiles.indices, tiles.builder
    width, (_, heads, lines, size, _) = target.shape[-1], target.shape
    start = _behind_new(tiles, places, token, slot)
    block, line = At(indices.divide(slot, BLOCK)), tiles.parameter()
    all_heads, inner = whole(indices, heads), (whole(indices, size), whole(indices, width))
    zeros = tiles.fill(0, target.dtype, (heads, size, width))
    rest = tiles.store(target, zeros, (block, all_heads, At(line), *inner))
    next_line = indices.divide(indices.add(start, indices.number(width - 1)), width)
    body = Region((line,), (rest,), ())
    loop = builder.add("loop", (next_line, indices.number(lines)), step=1, body=body)
    place = (At(indices.divide(start, width)), inner[0], At(indices.remainder(start, width)))
    single = tiles.store(
        target, tiles.fill(0, target.dtype, (heads, size)), (block, all_heads, *place)
    )
    return loop, single


def _behind_new(tiles: Tiles, places: Node, token: Node, slot: Node) -> Node:
    """Where in its block the tokens of this launch end, if `token` is its first; else its end."""
    indices = tiles.indices
    window = tiles.cast(tiles.read(places, (Span(token, BLOCK),)), DType.INT64)
    following = tiles.add("eq", window, indices.add(indices.count(BLOCK), slot))
    counted = tiles.cast(following, DType.INT64)
    new = tiles.builder.add("reduce", (counted,), axes=(0,), kind="sum")
    is_first = tiles.add("eq", indices.remainder(slot, BLOCK), indices.number(0))
    return tiles.add("where", is_first, new, indices.number(BLOCK))


def _row_store(tiles: Tiles, parts: tuple[Node, Node], slot: Node, layout: str) -> Node:
    """Write one token's row of every head [H, D] to its slot."""
    indices, (target, value) = tiles.indices, parts
    (heads, size), width = value.shape, target.shape[-1]
    if not isinstance(width, int) or not isinstance(size, int):
        raise TypeError("caches have fixed head sizes")
    block, offset = indices.divide(slot, BLOCK), indices.remainder(slot, BLOCK)
    window: Window
    if layout == "keys":
        value = tiles.reshaped(value, (heads, size // width, width))
        lines: Span = whole(indices, size // width)
        window = (At(block), whole(indices, heads), lines, At(offset), whole(indices, width))
    else:
        line, lane = At(indices.divide(offset, width)), At(indices.remainder(offset, width))
        window = (At(block), whole(indices, heads), line, whole(indices, size), lane)
    return tiles.store(target, value, window)
