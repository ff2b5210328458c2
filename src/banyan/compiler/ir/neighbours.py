"""Borders, and the neighbours of each place, written with slices."""

from collections.abc import Sequence

from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim


def padded(x: Node, amounts: Sequence[tuple[int, int]], value: float = 0) -> Node:
    """The last axes with a border of (low, high) places each; a negative one cuts off."""
    for axis, (low, high) in enumerate(amounts, x.tensor.rank - len(amounts)):
        x = x.slice(axis, max(0, -low), x.shape[axis] + min(0, high))
        if low > 0 or high > 0:
            x = x.apply("pad", axis=axis, low=max(0, low), high=max(0, high), value=value)
    return x


def windows(
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
        x = _one_axis(x, lead + 2 * number, (taps, step, gap), places[number])
    return x.permute(
        (*range(lead), *range(lead, x.tensor.rank, 2), *range(lead + 1, x.tensor.rank, 2))
    )


def _one_axis(x: Node, axis: int, shape: tuple[int, int, int], count: Dim) -> Node:
    """[.., L, ..] -> [.., taps, count, ..]."""
    taps, step, gap = shape
    ahead, behind = x.shape[:axis], x.shape[axis + 1 :]
    if taps == 1 or (taps == step and gap == 1):
        stop = count * step if taps > 1 else (count - 1) * step + 1
        if x.shape[axis] != stop or step > taps:
            x = x.slice(axis, 0, stop, step if taps == 1 else 1)
        apart = x.reshape((*ahead, count, taps, *behind))
        order = list(range(apart.tensor.rank))
        order[axis : axis + 2] = [axis + 1, axis]
        return apart.permute(order)
    parts = []
    for start in range(0, taps * gap, gap):
        part = x.slice(axis, start, start + (count - 1) * step + 1, step)
        parts.append(part.reshape((*ahead, 1, *part.shape[axis:])))
    return x.builder.add("concat", parts, axis=axis)
