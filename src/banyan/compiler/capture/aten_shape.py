"""ATen operations that move elements without changing them, and those that make tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.emitter import Emitter, Number, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.neighbours import padded
from banyan.compiler.ir.symbols import Dim

END_OF_AXIS = 2**62
"""Slices written `x[start:]` are captured with an enormous stop."""


def _same(emit: Emitter, x: Node, *_: Any) -> Node:
    return x


def _to_result_shape(emit: Emitter, x: Node, *_: Any) -> Node:
    return x.reshape(emit.shape)


def _permute(_: Emitter, x: Node, order: Sequence[int]) -> Node:
    return x.permute(axis % x.tensor.rank for axis in order)


def _expand(emit: Emitter, x: Node, *_: Any) -> Node:
    return x.expand(emit.shape)


def _repeat(emit: Emitter, x: Node, repeats: Sequence[Dim]) -> Node:
    missing = len(repeats) - x.tensor.rank
    own: tuple[Dim, ...] = (*(1,) * missing, *x.shape)
    spread = tuple(d for pair in zip(repeats, own, strict=True) for d in pair)
    with_ones = tuple(d for size in own for d in (1, size))
    return x.reshape(with_ones).expand(spread).reshape(emit.shape)


def clipped(index: Any, size: Dim, default: Dim) -> Dim:
    """A slice bound counted from the front and, where it can be told, inside the axis."""
    if index is None:
        return default
    if isinstance(index, int) and index >= END_OF_AXIS // 2:
        return size
    if isinstance(index, int) and index < 0:
        index = size + index
    if isinstance(index, int) and isinstance(size, int):
        return max(0, min(index, size))
    return index  # type: ignore[no-any-return]


def _slice(
    emit: Emitter, x: Node, axis: int = 0, start: Any = None, stop: Any = None, step: int = 1
) -> Node:
    axis %= x.tensor.rank
    size = x.shape[axis]
    first = clipped(start, size, 0)
    last = first + emit.shape[axis] if step == 1 else clipped(stop, size, size)
    return x.slice(axis, first, last, step)


def _select(emit: Emitter, x: Node, axis: int, index: Any) -> Node:
    axis %= x.tensor.rank
    first = x.shape[axis] + index if isinstance(index, int) and index < 0 else index
    return x.slice(axis, first, first + 1).reshape(emit.shape)


def _split(emit: Emitter, x: Node, _: Any, axis: int = 0) -> tuple[Node, ...]:
    axis %= x.tensor.rank
    parts: list[Node] = []
    start: Dim = 0
    for part in emit.result:
        stop = start + emit.sizes.dim(part.shape[axis])
        parts.append(x.slice(axis, start, stop))
        start = stop
    return tuple(parts)


def _concat(emit: Emitter, parts: Sequence[Node], axis: int = 0) -> Node:
    # PyTorch drops empty one-dimensional tensors from a concatenation.
    kept = [p for p in parts if p.shape != (0,)] or [parts[0]]
    alike = [part.cast(emit.dtype) for part in kept]
    return alike[0] if len(alike) == 1 else emit.add("concat", *alike, axis=axis % len(emit.shape))


def _pad(_: Emitter, x: Node, amounts: Sequence[int], value: Number = 0) -> Node:
    last_first = [(low, high) for low, high in zip(amounts[::2], amounts[1::2], strict=True)]
    return padded(x, last_first[::-1], value)


def _flip(emit: Emitter, x: Node, axes: Sequence[int]) -> Node:
    for axis in axes:
        x = flipped(emit, x, axis % x.tensor.rank)
    return x


def flipped(emit: Emitter, x: Node, axis: int) -> Node:
    """One axis in reverse order."""
    size = x.shape[axis]
    return x.apply("gather", emit.iota(size).binary("sub", size - 1, reverse=True), axis=axis)


def _arange(
    emit: Emitter, start: Number | Dim, _: Number | Dim, step: Number | Dim = 1, *__: Any
) -> Node:
    steps = emit.iota(emit.shape[0], emit.dtype)
    if step != 1:
        steps = steps * step
    return steps if start == 0 else steps + start


def _filled(value: Number) -> Rule:
    def rule(emit: Emitter, *_: Any) -> Node:
        return emit.constant(value, emit.dtype, emit.shape)

    return rule


def _full(emit: Emitter, _: Any, value: Number | Dim, *__: Any) -> Node:
    return emit.operand(value, emit.dtype, emit.shape)


def _copy(emit: Emitter, _: Node, source: Node, *__: Any) -> Node:
    return emit.operand(source, emit.dtype, emit.shape)


def _scalar_tensor(emit: Emitter, value: Number | Dim, *_: Any) -> Node:
    return emit.operand(value, emit.dtype, ())


_SAME = "alias clone contiguous detach lift_fresh_copy".split()
_RESHAPED = "view reshape _unsafe_view unsqueeze squeeze flatten".split()

RULES: Mapping[str, Rule] = {
    **{f"aten.{name}.default": _same for name in _SAME},
    **{f"aten.{name}.default": _to_result_shape for name in _RESHAPED},
    **{f"aten.squeeze.{overload}": _to_result_shape for overload in ("dim", "dims")},
    "aten.permute.default": _permute,
    "aten.expand.default": _expand,
    "aten.repeat.default": _repeat,
    "aten.slice.Tensor": _slice,
    "aten.select.int": _select,
    "aten.split_with_sizes.default": _split,
    "aten.cat.default": _concat,
    "aten.constant_pad_nd.default": _pad,
    "aten.flip.default": _flip,
    "aten.arange.default": lambda emit, stop, *_: _arange(emit, 0, stop),
    "aten.arange.start": lambda emit, start, stop, *_: _arange(emit, start, stop),
    "aten.arange.start_step": _arange,
    **{f"aten.{n}.default": _filled(0) for n in ("zeros", "zeros_like", "new_zeros")},
    **{f"aten.{n}.default": _filled(1) for n in ("ones", "ones_like", "new_ones")},
    **{
        f"aten.{name}": _filled(0)  # what uninitialised memory holds is ours to choose
        for name in ("empty.memory_format", "empty_like.default", "empty_permuted.default")
    },
    "aten.copy.default": _copy,
    "aten.full.default": _full,
    "aten.full_like.default": _full,
    "aten.new_full.default": lambda emit, _x, size, value, *rest: _full(emit, size, value),
    "aten.scalar_tensor.default": _scalar_tensor,
}
"""Rules by the name of the ATen overload."""
