"""ATen operations that look at the neighbours of each place: convolutions and pooling.

A convolution is a product: `windows` lays the values that each output place sees in a column
("im2col"), and the weight [O, C, *K] is a matrix [O, C * K] as it lies in memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from banyan.compiler.capture.aten_reduce import LOWEST, Unlowered, extreme_or_nan, mean_over
from banyan.compiler.capture.aten_shape import flipped
from banyan.compiler.capture.emitter import Emitter, Number, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.neighbours import padded, windows
from banyan.compiler.ir.symbols import Dim, fixed, product
from banyan.compiler.ir.types import DType

MOST_TAPS = 64
"""Taps up to which a depthwise convolution is written out as a sum."""


def _for_each_axis(values: Sequence[int], rank: int) -> list[int]:
    return [int(v) for v in values] * (rank if len(values) == 1 else 1)


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
        x = x.reshape((1, *x.shape))
    if transposed:
        extra = _for_each_axis(output_padding, rank)
        border = [
            (gap * (k - 1) - low, gap * (k - 1) - low + more)
            for gap, k, (low, _), more in zip(gaps, kernel, border, extra, strict=True)
        ]
        x, weight = _spread(x, steps), _turned(emit, weight, groups)
        steps = [1] * rank
    view = _View(tuple(kernel), tuple(steps), tuple(gaps), tuple(border), emit.shape[-rank:])
    sums = _depthwise if weight.shape[1] == 1 and math.prod(kernel) <= MOST_TAPS else _product
    result = sums(x, weight, view, groups)
    if bias is not None:
        ones = (1,) * (result.tensor.rank - 3)
        result = result + bias.cast(DType.FLOAT32).reshape((*result.shape[1:3], *ones))
    return result.cast(emit.dtype).reshape(emit.shape)


@dataclass(frozen=True, slots=True)
class _View:
    """Which neighbours the places of a convolution see."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    border: tuple[tuple[int, int], ...]
    places: tuple[Dim, ...]

    @property
    def is_itself(self) -> bool:
        """Does every place see itself alone?"""
        ones = (1,) * len(self.kernel)
        return self.kernel == self.stride == ones and set(self.border) == {(0, 0)}


def _product(x: Node, weight: Node, view: _View, groups: int) -> Node:
    """Filters times what each place sees, in float32: [B, groups, O / groups, places]."""
    batch, depth, places = x.shape[0], product(weight.shape[1:]), product(view.places)
    columns = x.reshape((batch * groups, weight.shape[1], *x.shape[2:]))
    if not view.is_itself:
        columns = columns.apply(
            "windows",
            kernel=view.kernel,
            stride=view.stride,
            dilation=view.dilation,
            border=view.border,
            places=view.places,
        )
    columns = columns.reshape((batch, groups, depth, places))
    rows = weight.reshape((1, groups, weight.shape[0] // groups, depth))
    spread = rows.expand((batch, *rows.shape[1:]))
    return spread.apply("dot", columns, dtype=DType.FLOAT32)


def _depthwise(x: Node, weight: Node, view: _View, groups: int) -> Node:
    """One channel for each filter is no product: a sum over the taps, in float32.

    Gives [B, groups, O / groups, *places].
    """
    filters, rank = weight.shape[0], len(view.kernel)
    grown = padded(x.reshape((*x.shape[:2], 1, *x.shape[2:])), view.border)
    taps = weight.reshape((groups, fixed(filters) // groups, product(view.kernel)))
    total = None
    for number, tap in enumerate(np.ndindex(view.kernel)):
        seen = grown
        for axis, start in enumerate(tap):
            step, count = view.stride[axis], view.places[axis]
            first = start * view.dilation[axis]
            seen = seen.slice(3 + axis, first, first + (count - 1) * step + 1, step)
        factor = taps.slice(2, number, number + 1).cast(DType.FLOAT32)
        factor = factor.reshape((*taps.shape[:2], *(1,) * rank))
        part = seen.cast(DType.FLOAT32) * factor
        total = part if total is None else total + part
    assert total is not None
    return total


def _fixed(size: Dim) -> int:
    if not isinstance(size, int):
        raise Unlowered("a window whose size is symbolic")
    return size


def _spread(x: Node, steps: Sequence[int]) -> Node:
    """`step` - 1 zeros between neighbours."""
    for axis, step in enumerate(steps, x.tensor.rank - len(steps)):
        if step > 1:
            ahead, size, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
            apart = x.reshape((*ahead, size, 1, *behind))
            apart = apart.apply("pad", axis=axis + 1, low=0, high=step - 1, value=0)
            x = apart.reshape((*ahead, size * step, *behind)).slice(axis, 0, (size - 1) * step + 1)
    return x


def _turned(emit: Emitter, weight: Node, groups: int) -> Node:
    """The weight [C, O / groups, *K] of a transposed convolution, turned: [O, C / groups, *K]."""
    depth, filters, *kernel = weight.shape
    apart = weight.reshape((groups, depth // groups, filters, *kernel))
    swapped = apart.permute((0, 2, 1, *range(3, apart.tensor.rank)))
    flat = swapped.reshape((groups * filters, depth // groups, *kernel))
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
    seen = windows(padded(x, amounts, border), kernel, stride, dilation, places)
    return seen.reshape((*x.shape[:-rank], math.prod(kernel), *places))


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
        largest = extreme_or_nan(seen, (axis,), "max", keep=False)
        whole = emit.iota(product(x.shape[-rank:])).reshape(x.shape[-rank:]).expand(x.shape)
        places = _pool(emit, whole, sizes, *options, border=-1)
        return largest, _place_of(seen, places, axis)

    return rule


def _place_of(seen: Node, places: Node, axis: int) -> Node:
    """The number of the first largest place that is not in the border."""
    same = seen.equals(seen.reduce("max", (axis,), keep=True))
    if seen.dtype.is_floating:
        same = same | seen.differs(seen)
    return (same & (places >= 0)).choose(places, 2**62).reduce("min", (axis,))


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

        def total(values: Node) -> Node:
            return _pool(emit, values, sizes, *options, border=0).reduce("sum", (axis,))

        wide = x.cast(DType.FLOAT32)
        if divisor is not None or count_include_pad:
            mean = total(wide) / (divisor or math.prod(sizes))
        else:
            mean = total(wide) / total(wide.filled(1.0))
        return mean.cast(emit.dtype)

    return rule


def _adaptive_average(emit: Emitter, x: Node, size: Sequence[int]) -> Node:
    """Place i of n is the mean from floor(i L / n) to ceil((i + 1) L / n); axis by axis."""
    wide = x.cast(DType.FLOAT32)
    for axis, count in enumerate(size, x.tensor.rank - len(size)):
        length = _fixed(x.shape[axis])
        parts = []
        for place in range(count):
            first, stop = place * length // count, -(-(place + 1) * length // count)
            parts.append(mean_over(wide.slice(axis, first, stop), (axis,), keep=True))
        wide = emit.add("concat", *parts, axis=axis)
    return wide.cast(emit.dtype)


def _nearest(emit: Emitter, x: Node, size: Any, scales: Sequence[float] | None = None) -> Node:
    """Each output place takes the input place floor(place * scale)."""
    for number in range(x.tensor.rank - 2):
        axis, have, want = 2 + number, x.shape[2 + number], emit.shape[2 + number]
        places = emit.iota(want)
        if scales is None or float(scales[number]).is_integer():
            below = places * have // want
        else:
            exact = (places.cast(DType.FLOAT32) * (1.0 / scales[number])).apply("floor")
            below = exact.cast(DType.INT64).binary("min", have - 1)
        x = x.apply("gather", below, axis=axis)
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
