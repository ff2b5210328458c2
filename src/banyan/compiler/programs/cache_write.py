"""Writing new keys or values into a paged cache, in place: one program for each token.

Layouts as in `compiler.capture.torch_operations`. A negative slot names a block before the first,
and what lies outside a tensor is never written.
"""

from banyan.compiler.ir.graph import Builder, Kernel, Region
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
    body = Region((token,), (store,), ())
    return Kernel(f"cache_write_{layout}", (tokens,), (target, source, places), body)
