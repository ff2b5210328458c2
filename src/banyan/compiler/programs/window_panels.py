"""What each place of a convolution sees, written as the panels that the micro-kernels read.

One program writes one panel: sixteen places next to each other, all channels and taps of them.
Where their windows begin is found once; then each line of the panel is a few loads. A matrix [K, N]
is the case of one tap: its columns are the places.
"""

from dataclasses import dataclass

from banyan.compiler.ir.graph import Builder, Kernel, Node, Region
from banyan.compiler.ir.operations import PANEL_COLUMNS
from banyan.compiler.ir.symbols import fixed, product
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.tiling.tiles import Tiles
from banyan.compiler.tiling.windows import At, Each, Span, Window, whole


@dataclass(frozen=True, slots=True)
class Windows:
    """Types of a `window_panels`, [B, C, *L] and [B, N/16, K/p, 16, p], and its attributes."""

    source: TensorType
    panels: TensorType
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    border: tuple[tuple[int, int], ...]
    places: tuple[int, ...]


def window_panels_kernel(builder: Builder, windows: Windows) -> Kernel:
    """The kernel with pointers (source, panels)."""
    tiles = Tiles(builder)
    source = builder.pointer("source", windows.source, "read")
    panels = builder.pointer("panels", windows.panels, "write")
    batch, panel, line = (tiles.parameter() for _ in range(3))
    number = tiles.indices.number
    batches, *rest = windows.panels.shape
    count, lines, _, width = (fixed(size) for size in rest)
    starts = _starts(tiles, windows, tiles.indices.multiply(panel, PANEL_COLUMNS))
    # Carried, though they never change: so they are computed once, not for every line.
    carried = [tiles.builder.parameter(start.tensor) for start in starts]
    stores = []
    for lane in range(width):
        depth = tiles.indices.add(tiles.indices.multiply(line, width), number(lane))
        seen = tiles.read(source, _seen(tiles, windows, carried, (batch, depth)))
        sixteen = whole(tiles.indices, PANEL_COLUMNS)
        place = (At(batch), At(panel), At(line), sixteen, At(number(lane)))
        stores.append(tiles.store(panels, seen, place))
    inner = Region((line, *carried), tuple(stores), tuple(carried))
    loop = builder.add("loop", (number(0), number(lines), *starts), step=1, body=inner)
    body = Region((batch, panel), (loop,), ())
    return Kernel("window_panels", (batches, count), (source, panels), body)


def _starts(tiles: Tiles, windows: Windows, first: Node) -> list[Node]:
    """Along each axis, where the windows of the sixteen places from `first` begin."""
    indices = tiles.indices
    if _is_matrix(windows):
        return [first]
    number = indices.add(indices.count(PANEL_COLUMNS), first)
    # Along an axis of one place all sixteen have the number 0, which is no list by itself.
    places = [x.expand((PANEL_COLUMNS,)) for x in indices.unflatten(number, windows.places)]
    axes = zip(places, windows.stride, windows.border, strict=True)
    starts = [
        indices.subtract(indices.multiply(place, step), indices.number(low))
        for place, step, (low, _) in axes
    ]
    # Behind the last place nothing is seen: such windows begin far outside.
    is_there = tiles.add("lt", number, indices.number(product(windows.places)))
    nowhere = tiles.fill(-(2**30), DType.INT64, (PANEL_COLUMNS,))
    return [tiles.add("where", is_there, starts[0], nowhere), *starts[1:]]


def _seen(tiles: Tiles, windows: Windows, starts: list[Node], where: tuple[Node, Node]) -> Window:
    """The elements of sixteen places at one depth, which counts taps before channels."""
    indices, (batch, depth) = tiles.indices, where
    if _is_matrix(windows):
        return (At(batch), At(depth), Span(starts[0], PANEL_COLUMNS))
    taps = product(windows.kernel)
    channel = indices.divide(depth, taps)
    tap = indices.unflatten(indices.remainder(depth, taps), windows.kernel)
    entries = [
        Each(indices.add(start, indices.multiply(number, gap)))
        for start, number, gap in zip(starts, tap, windows.dilation, strict=True)
    ]
    return (At(batch), At(channel), *entries)


def _is_matrix(windows: Windows) -> bool:
    return (windows.kernel, windows.stride, windows.border) == ((1,), (1,), ((0, 0),))
