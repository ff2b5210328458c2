"""Copies that put another dim last: transposed matrices, and the panels of packed products.

A program moves one block that is as wide in the order it reads as in the order it writes, so that
both sides touch whole cache lines.
"""

from banyan.compiler.ir.graph import Builder, Kernel, Region, scalar_type
from banyan.compiler.ir.symbols import Dim, ceil_divide, upper_bound
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Entry, Span

SIDE = 64
"""Most elements of a block along one dim."""
BLOCK = 8192
"""Most elements of a block."""
UNIT_BYTES = 4
"""A last dim of so few bytes moves as one unit."""


def turns(shape: tuple[Dim, ...], order: tuple[int, ...], dtype: DType) -> bool:
    """Does a permutation put another dim (of more than one unit) last?"""
    long = [axis for axis in order if shape[axis] != 1]
    if not long or shape[long[-1]] == 0:
        return False
    last = max(long)
    if long[-1] == last:
        size = shape[last]
        if not isinstance(size, int) or size * dtype.num_bytes > UNIT_BYTES:
            return False
        long = long[:-1]
        return bool(long) and long[-1] != max(long)
    return True


def turn_kernel(builder: Builder, source: TensorType, order: tuple[int, ...]) -> Kernel:
    """Pointers (in, out): `out` is `in` with its dims in `order`."""
    tiles = Tiles(builder)
    sizes = _block(source.shape, order)
    target = TensorType(tuple(source.shape[axis] for axis in order), source.dtype)
    pointers = (builder.pointer("in", source, "read"), builder.pointer("out", target, "write"))
    parameters = [builder.parameter(scalar_type(DType.INT64)) for _ in sizes]
    window: list[Entry] = []
    for parameter, size in zip(parameters, sizes, strict=True):
        start = tiles.indices.multiply(parameter, size)
        window.append(At(parameter) if size == 1 else Span(start, size))
    tile = tiles.read(pointers[0], tuple(window))
    spans = [axis for axis, entry in enumerate(window) if isinstance(entry, Span)]
    turned = tuple(spans.index(axis) for axis in order if axis in spans)
    value = builder.add("permute", (tile,), order=turned)
    store = tiles.store(pointers[1], value, tuple(window[axis] for axis in order))
    grid = tuple(ceil_divide(d, s) for d, s in zip(source.shape, sizes, strict=True))
    return Kernel("turn", grid, pointers, Region(tuple(parameters), (store,), ()))


def _block(shape: tuple[Dim, ...], order: tuple[int, ...]) -> list[int]:
    """The sides of a block: what is last on either side, then outwards from what is written."""
    sizes = [1] * len(shape)
    rank = len(shape)
    for axis in (order[-1], rank - 1, *reversed(order)):
        left = BLOCK
        for size in sizes:
            left //= size
        if sizes[axis] == 1:
            sizes[axis] = max(1, min(SIDE, upper_bound(shape[axis]), left))
    return sizes
