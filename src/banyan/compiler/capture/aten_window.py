"""ATen operations that look at the neighbours of each place: convolutions and pooling.

A convolution is a product: `windows` lays the values that each output place sees in a column
("im2col"), and the weight [O, C, *K] is a matrix [O, C * K] as it lies in memory. Where windows
tile the input (kernel equals stride: patches, 1 x 1), laying out is a reshape.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import LOWEST, Unlowered, extreme_or_nan
from banyan.compiler.capture.aten_shape import flipped
from banyan.compiler.capture.emitter import Emitter, Number, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType


def _for_each_axis(values: Sequence[int], rank: int) -> list[int]:
    return [int(v) for v in values] * (rank if len(values) == 1 else 1)


def padded(emit: Emitter, x: Node, amounts: Sequence[tuple[int, int]], value: Number = 0) -> Node:
    """The last axes with a border of (low, high) places each."""
    first = x.tensor.rank - len(amounts)
    for axis, (low, high) in enumerate(amounts, first):
        if low or high:
            x = emit.add("pad", x, axis=axis, low=low, high=high, value=value)
    return x


def windows(
    emit: Emitter,
    x: Node,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    places: Sequence[Dim],
) -> Node:
    """[..., *L] -> [..., *kernel, *places]: what each place sees."""
    rank = len(kernel)
    lead = x.tensor.rank - rank
    for number, (taps, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        axis = lead + 2 * number
        x = _one_axis(emit, x, axis, (taps, step, gap), places[number])
    order = (*range(lead), *range(lead, x.tensor.rank, 2), *range(lead + 1, x.tensor.rank, 2))
    return x if rank == 1 else emit.add("permute", x, order=order)


def _one_axis(emit: Emitter, x: Node, axis: int, shape: tuple[int, int, int], count: Dim) -> Node:
    """[.., L, ..] -> [.., taps, count, ..]."""
    taps, step, gap = shape
    if taps == 1 or (taps == step and gap == 1):
        stop = count * step if taps > 1 else (count - 1) * step + 1
        if x.shape[axis] != stop or step > taps:
            x = emit.add("slice", x, axis=axis, start=0, stop=stop, step=step if taps == 1 else 1)
        apart = emit.reshape(x, (*x.shape[:axis], count, taps, *x.shape[axis + 1 :]))
        order = list(range(apart.tensor.rank))
        order[axis : axis + 2] = [axis + 1, axis]
        return emit.add("permute", apart, order=tuple(order))
    parts = []
    for tap in range(taps):
        start = tap * gap
        stop = start + (count - 1) * step + 1
        part = emit.add("slice", x, axis=axis, start=start, stop=stop, step=step)
        parts.append(emit.reshape(part, (*x.shape[:axis], 1, *part.shape[axis:])))
    return emit.add("concat", *parts, axis=axis)


def _convolution(
    emit: Emitter,
    x: Node,
    weight: Node,
    bias: Node | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Node:
    if not emit.dtype.is_floating:
        raise Unlowered("convolution of whole numbers")
    rank = weight.tensor.rank - 2
    steps, gaps = _for_each_axis(stride, rank), _for_each_axis(dilation, rank)
    border = [(p, p) for p in _for_each_axis(padding, rank)]
    kernel = [_fixed(size) for size in weight.shape[2:]]
    if x.tensor.rank == rank + 1:
        x = emit.reshape(x, (1, *x.shape))
    if transposed:
        extra = _for_each_axis(output_padding, rank)
        border = [
            (gap * (k - 1) - low, gap * (k - 1) - low + more)
            for gap, k, (low, _), more in zip(gaps, kernel, border, extra, strict=True)
        ]
        x, weight = _spread(emit, x, steps), _turned(emit, weight, groups)
        steps = [1] * rank
    places = emit.shape[-rank:]
    seen = windows(emit, _cropped(emit, x, border), kernel, steps, gaps, places)
    filters = weight.shape[0] // groups
    depth = product(tuple(weight.shape[1:]))
    columns = emit.reshape(seen, (x.shape[0], groups, depth, product(places)))
    rows = emit.reshape(weight, (1, groups, filters, depth))
    spread = emit.broadcast(rows, (x.shape[0], groups, filters, depth))
    result = emit.add("dot", spread, columns, dtype=DType.FLOAT32)
    result = emit.reshape(result, (x.shape[0], weight.shape[0], *places))
    if bias is not None:
        offset = emit.reshape(emit.cast(bias, DType.FLOAT32), (bias.shape[0], *(1,) * rank))
        result = emit.add("add", result, emit.broadcast(offset, result.shape))
    return emit.reshape(emit.cast(result, emit.dtype), emit.shape)


def _fixed(size: Dim) -> int:
    if not isinstance(size, int):
        raise Unlowered("a window whose size is symbolic")
    return size


def _cropped(emit: Emitter, x: Node, border: Sequence[tuple[int, int]]) -> Node:
    """A border of zeros; a negative one cuts off."""
    first = x.tensor.rank - len(border)
    for axis, (low, high) in enumerate(border, first):
        if low < 0 or high < 0:
            stop = x.shape[axis] + min(0, high)
            x = emit.add("slice", x, axis=axis, start=max(0, -low), stop=stop, step=1)
    return padded(emit, x, [(max(0, low), max(0, high)) for low, high in border])


def _spread(emit: Emitter, x: Node, steps: Sequence[int]) -> Node:
    """`step` - 1 zeros between neighbours."""
    for axis, step in enumerate(steps, x.tensor.rank - len(steps)):
        if step > 1:
            size = x.shape[axis]
            apart = emit.reshape(x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
            apart = emit.add("pad", apart, axis=axis + 1, low=0, high=step - 1, value=0)
            x = emit.reshape(apart, (*x.shape[:axis], size * step, *x.shape[axis + 1 :]))
            stop = (size - 1) * step + 1
            x = emit.add("slice", x, axis=axis, start=0, stop=stop, step=1)
    return x


def _turned(emit: Emitter, weight: Node, groups: int) -> Node:
    """The weight [C, O / groups, *K] of a transposed convolution, turned: [O, C / groups, *K]."""
    depth, filters, *kernel = weight.shape
    apart = emit.reshape(weight, (groups, depth // groups, filters, *kernel))
    order = (0, 2, 1, *range(3, apart.tensor.rank))
    swapped = emit.add("permute", apart, order=order)
    flat = emit.reshape(swapped, (groups * filters, depth // groups, *kernel))
    for axis in range(2, flat.tensor.rank):
        flat = flipped(emit, flat, axis)
    return flat


def _pool(emit: Emitter, x: Node, kernel: Sequence[int], *options: Any, border: Number) -> Node:
    """What each place sees, [..., prod(kernel), *places], with `border` outside."""
    stride, padding, dilation = options
    rank = len(kernel)
    places = emit.shape[-rank:]
    amounts = []
    for number, size in enumerate(x.shape[-rank:]):
        low = padding[number]
        reach = (places[number] - 1) * stride[number] + dilation[number] * (kernel[number] - 1) + 1
        more = reach - size - low
        amounts.append((low, max(low, more) if isinstance(more, int) else low))
    seen = windows(emit, padded(emit, x, amounts, border), kernel, stride, dilation, places)
    return emit.reshape(seen, (*x.shape[:-rank], math.prod(kernel), *places))


def _max_pool(rank: int) -> Rule:
    def rule(
        emit: Emitter,
        x: Node,
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> tuple[Node, Node]:
        if ceil_mode and not all(isinstance(size, int) for size in x.shape[-rank:]):
            raise Unlowered("pooling with ceil_mode over a symbolic size")
        sizes = _for_each_axis(kernel, rank)
        options = [_for_each_axis(v, rank) for v in (stride or kernel, padding, dilation)]
        lowest = LOWEST.get(x.dtype, -math.inf)
        seen = _pool(emit, x, sizes, *options, border=lowest)
        axis = seen.tensor.rank - rank - 1
        largest = extreme_or_nan(emit, seen, (axis,), "max", keep=False)
        numbers = emit.add("iota", size=product(x.shape[-rank:]), dtype=DType.INT64)
        numbers = emit.broadcast(emit.reshape(numbers, x.shape[-rank:]), x.shape)
        places = _pool(emit, numbers, sizes, *options, border=-1)
        return largest, _place_of(emit, seen, places, axis)

    return rule


def _place_of(emit: Emitter, seen: Node, places: Node, axis: int) -> Node:
    """The number of the first largest place that is not in the border."""
    from_front = emit.add("reduce", seen, axes=(axis,), kind="max")
    shape = tuple(1 if i == axis else d for i, d in enumerate(seen.shape))
    top = emit.broadcast(emit.reshape(from_front, shape), seen.shape)
    inside = emit.scalar("ge", places, 0)
    same = emit.add("eq", seen, top)
    if seen.dtype.is_floating:
        same = emit.add("or", same, emit.add("ne", seen, seen))
    far = emit.constant(2**62, DType.INT64, places.shape)
    return emit.reduce(
        emit.add("where", emit.add("and", same, inside), places, far), (axis,), "min"
    )


def _average_pool(rank: int) -> Rule:
    def rule(
        emit: Emitter,
        x: Node,
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor: int | None = None,
    ) -> Node:
        if ceil_mode or not emit.dtype.is_floating:
            raise Unlowered("average pooling with ceil_mode or of whole numbers")
        sizes = _for_each_axis(kernel, rank)
        options = [_for_each_axis(v, rank) for v in (stride or kernel, padding, (1,))]
        axis = x.tensor.rank - rank
        wide = emit.cast(x, DType.FLOAT32)
        total = emit.reduce(_pool(emit, wide, sizes, *options, border=0), (axis,), "sum")
        if divisor is not None or count_include_pad:
            return emit.cast(emit.scalar("div", total, divisor or math.prod(sizes)), emit.dtype)
        ones = emit.constant(1.0, DType.FLOAT32, x.shape)
        count = emit.reduce(_pool(emit, ones, sizes, *options, border=0), (axis,), "sum")
        return emit.cast(emit.add("div", total, count), emit.dtype)

    return rule


def _adaptive_average(emit: Emitter, x: Node, size: Sequence[int]) -> Node:
    """Place i of n is the mean from floor(i L / n) to ceil((i + 1) L / n); axis by axis."""
    wide = emit.cast(x, DType.FLOAT32)
    for axis, count in enumerate(size, x.tensor.rank - len(size)):
        length = _fixed(x.shape[axis])
        parts = []
        for place in range(count):
            first, stop = place * length // count, -(-(place + 1) * length // count)
            seen = emit.add("slice", wide, axis=axis, start=first, stop=stop, step=1)
            total = emit.reduce(seen, (axis,), "sum", keep=True)
            parts.append(emit.scalar("div", total, stop - first))
        wide = emit.add("concat", *parts, axis=axis)
    return emit.cast(wide, emit.dtype)


def _nearest(emit: Emitter, x: Node, size: Any, scales: Sequence[float] | None = None) -> Node:
    """Each output place takes the input place floor(place * scale)."""
    rank = x.tensor.rank - 2
    for number in range(rank):
        axis, have, want = 2 + number, x.shape[2 + number], emit.shape[2 + number]
        places = emit.add("iota", size=want, dtype=DType.INT64)
        if scales is None or float(scales[number]).is_integer():
            below = emit.scalar("floordiv", emit.scalar("mul", places, have), want)
        else:
            exact = emit.cast(places, DType.FLOAT32)
            factor = emit.scalar("mul", exact, 1.0 / scales[number])
            below = emit.cast(emit.add("floor", factor), DType.INT64)
            below = emit.scalar("min", below, have - 1)
        x = emit.add("gather", x, below, axis=axis)
    return x


RULES: Mapping[str, Rule] = {
    "aten.convolution.default": _convolution,
    "aten.max_pool2d_with_indices.default": _max_pool(2),
    "aten.max_pool3d_with_indices.default": _max_pool(3),
    "aten.avg_pool1d.default": _average_pool(1),
    "aten.avg_pool2d.default": _average_pool(2),
    "aten.avg_pool3d.default": _average_pool(3),
    "aten._adaptive_avg_pool2d.default": _adaptive_average,
    "aten._adaptive_avg_pool3d.default": _adaptive_average,
    **{f"aten.upsample_nearest{rank}d.vec": _nearest for rank in (1, 2, 3)},
}
"""Rules by the name of the ATen overload."""
