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
    width = cache.shape[-1]
    if not isinstance(width, int) or not isinstance(size, int):
        raise TypeError("caches have fixed head sizes")
    slot = tiles.cast(tiles.read(places, (At(token),)), DType.INT64)
    block, offset = indices.divide(slot, BLOCK), indices.remainder(slot, BLOCK)
    row_window = (At(token), whole(indices, heads), whole(indices, size))
    value = tiles.read(source, row_window)
    all_heads = whole(indices, heads)
    window: Window
    if layout == "keys":
        value = tiles.reshaped(value, (heads, size // width, width))
        lines: Span = whole(indices, size // width)
        window = (At(block), all_heads, lines, At(offset), whole(indices, width))
    else:
        line, lane = At(indices.divide(offset, width)), At(indices.remainder(offset, width))
        window = (At(block), all_heads, line, whole(indices, size), lane)
    store = tiles.store(target, value, window)
    cleared = () if layout == "keys" else _clear(tiles, (target, places), (token, slot))
    body = Region((token,), (*cleared, store), ())
    return Kernel(f"cache_write_{layout}", (tokens,), (target, source, places), body)


def _clear(tiles: Tiles, pointers: tuple[Node, Node], where: tuple[Node, Node]) -> tuple[Node, ...]:
    """Zero the values of a new block that no token of this launch writes: they are its last ones.

    Whole lines at once; the first of them may share its line with the last new token.
    """
    (target, places), (token, slot) = pointers, where
    indices, builder = tiles.indices, tiles.builder
    width, (_, heads, lines, size, _) = target.shape[-1], target.shape
    window = tiles.cast(tiles.read(places, (Span(token, BLOCK),)), DType.INT64)
    following = tiles.add("eq", window, indices.add(indices.count(BLOCK), slot))
    new = builder.add("reduce", (tiles.cast(following, DType.INT64),), axes=(0,), kind="sum")
    is_first = tiles.add("eq", indices.remainder(slot, BLOCK), indices.number(0))
    start = tiles.add("where", is_first, new, indices.number(BLOCK))
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
