"""Writing new keys or values into a paged cache, in place: one program for each token.

Layouts as in `compiler.capture.torch_operations`. A negative slot names a block before the first,
and what lies outside a tensor is never written.

The first token of a block clears the values behind the new ones: attention multiplies them by zero,
and what another sequence left there may be infinite.
"""

from banyan.compiler.ir.cached import CACHE_BLOCK as BLOCK
from banyan.compiler.ir.cached import NIBBLE_MIDDLE, CacheFormat, quantized_format
from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Span, Window, whole


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
    """The same for quantised caches (`ir.cached`), with pointers (cache, scales, rows, slots)."""
    tiles = Tiles(builder)
    indices = tiles.indices
    cache, _, rows, _ = types
    form = quantized_format(cache.dtype)
    if form is None:
        raise TypeError(f"a cache of {cache.dtype.value} has no scales")
    names = (("cache", "update"), ("scales", "update"), ("rows", "read"), ("slots", "read"))
    pointers = tuple(
        builder.pointer(name, kind, access)
        for (name, access), kind in zip(names, types, strict=True)
    )
    target, beside, source, places = pointers
    token = tiles.parameter()
    tokens, heads, size = rows.shape
    slot = tiles.cast(tiles.read(places, (At(token),)), DType.INT64)
    window = (At(token), whole(indices, heads), whole(indices, size))
    value = tiles.cast(tiles.read(source, window), DType.FLOAT32)
    numbers, parts = _quantized(tiles, value, form)
    start = _behind_new(tiles, places, token, slot)
    block, offset = At(indices.divide(slot, BLOCK)), At(indices.remainder(slot, BLOCK))
    zeros = tiles.fill(0, DType.FLOAT32, (heads, BLOCK))
    effects: list[Node] = []
    for i, part in enumerate(parts):
        place = (block, whole(indices, heads), At(indices.number(i)))
        effects.append(tiles.store(beside, zeros, (*place, Span(start, BLOCK))))
        effects.append(tiles.store(beside, part, (*place, offset)))
    effects.append(_row_store(tiles, (target, numbers), slot, layout))
    body = Region((token,), tuple(effects), ())
    return Kernel(f"cache_write_quantized_{layout}", (tokens,), pointers, body)


def _quantized(tiles: Tiles, value: Node, form: CacheFormat) -> tuple[Node, list[Node]]:
    """Stored elements [H, E] of float32 rows [H, D], and the numbers [H] beside each row."""
    add, builder, (heads, size) = tiles.add, tiles.builder, value.shape

    def largest(tile: Node) -> Node:
        return builder.add("reduce", (tile,), axes=(1,), kind="max")

    if form.numbers == 1:
        spread = largest(add("max", value, builder.add("neg", (value,))))
    else:
        lowest = builder.add("reduce", (value,), axes=(1,), kind="min")
        spread = add("sub", largest(value), lowest)
        value = add("sub", value, tiles.columns(lowest, size))
    is_zero = add("eq", spread, tiles.fill(0, DType.FLOAT32, (heads,)))
    scale = add("div", spread, tiles.fill(form.largest, DType.FLOAT32, (heads,)))
    scale = add("where", is_zero, tiles.fill(1, DType.FLOAT32, (heads,)), scale)
    scaled = add("div", value, tiles.columns(scale, size))
    if form.dtype is DType.FLOAT8_E4M3:
        # What another sequence left behind is multiplied by zero: it must not be NaN.
        zeros = tiles.fill(0, DType.FLOAT32, (heads, size))
        known = add("where", add("eq", scaled, scaled), scaled, zeros)
        return tiles.cast(known, form.dtype), [scale]
    rounded = builder.add("floor", (add("add", scaled, tiles.fill(0.5, DType.FLOAT32, ())),))
    if form.numbers == 1:
        return tiles.cast(rounded, form.dtype), [scale]
    middle = add("mul", scale, tiles.fill(NIBBLE_MIDDLE, DType.FLOAT32, ()))
    return _in_halves(tiles, rounded, form), [scale, add("add", lowest, middle)]


def _in_halves(tiles: Tiles, numbers: Node, form: CacheFormat) -> Node:
    """Two numbers [H, D] from 0 to 15 in each byte [H, D/2], the even one in the low half."""
    add, (heads, size) = tiles.add, numbers.shape
    kept = add("min", numbers, tiles.fill(form.largest, DType.FLOAT32, ()))
    pairs = tiles.reshaped(kept, (heads, size // form.numbers, form.numbers))
    place = tiles.cast(tiles.indices.count(form.numbers), DType.FLOAT32)
    worth = add("mul", place, tiles.fill(form.largest, DType.FLOAT32, ()))
    worth = add("add", worth, tiles.fill(1, DType.FLOAT32, ()))
    weighted = add("mul", pairs, tiles.grown(worth, pairs.shape))
    both = tiles.builder.add("reduce", (weighted,), axes=(2,), kind="sum")
    return tiles.cast(both, form.dtype)


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
