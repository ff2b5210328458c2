"""ATen operations that contract: matrix products, linear layers, attention, our own."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import Unlowered
from banyan.compiler.capture.emitter import Emitter, Number, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType


def _dot(emit: Emitter, a: Node, b: Node, *, transpose_b: bool = False) -> Node:
    return emit.add("dot", a, b, transpose_b=transpose_b, dtype=emit.dtype)


def _wide_dot(emit: Emitter, a: Node, b: Node, *, transpose_b: bool = False) -> Node:
    return emit.add("dot", a, b, transpose_b=transpose_b, dtype=DType.FLOAT32)


def _plain_product(emit: Emitter, a: Node, b: Node, *_: Any) -> Node:
    return _dot(emit, a, b)


def _linear(emit: Emitter, x: Node, weight: Node, bias: Node | None = None) -> Node:
    if weight.tensor.rank != 2:
        raise Unlowered("linear with a weight that is no matrix")
    flat = emit.reshape(x, (product(x.shape[:-1]), x.shape[-1]))
    if bias is None:
        return emit.reshape(_dot(emit, flat, weight, transpose_b=True), emit.shape)
    wide = _wide_dot(emit, flat, weight, transpose_b=True)
    biased = emit.add("add", wide, emit.operand(bias, DType.FLOAT32, wide.shape))
    return emit.reshape(emit.cast(biased, emit.dtype), emit.shape)


def _add_product(
    emit: Emitter, bias: Node, a: Node, b: Node, beta: Number = 1, alpha: Number = 1
) -> Node:
    wide = _wide_dot(emit, a, b)
    scaled = wide if alpha == 1 else emit.scalar("mul", wide, alpha)
    if beta == 0:  # then nobody looks at the bias, NaN or not
        return emit.cast(scaled, emit.dtype)
    offset = emit.operand(bias, DType.FLOAT32, wide.shape)
    weighted = offset if beta == 1 else emit.scalar("mul", offset, beta)
    return emit.cast(emit.add("add", scaled, weighted), emit.dtype)


def _attention(
    emit: Emitter, query: Node, key: Node, value: Node, mask: Node | None = None, *options: Any
) -> Node:
    dropout, causal, scale, grouped = options
    if dropout:
        raise Unlowered("attention with dropout")
    heads = (query.shape[-3],) if query.tensor.rank > 2 else (1,)
    groups = (key.shape[-3],) if grouped else heads
    outer = query.shape[:-3]
    tensors = [
        _with_heads(emit, x, outer, own)
        for x, own in ((query, heads), (key, groups), (value, groups))
    ]
    if mask is not None:
        tensors.append(_mask(emit, mask, query, key))
    factor = 1.0 / math.sqrt(_static(query.shape[-1])) if scale is None else float(scale)
    node = emit.add("attention_forward", *tensors, causal=bool(causal), scale=factor)
    return emit.reshape(emit.add("get", node, index=0), emit.shape)


def _with_heads(emit: Emitter, x: Node, outer: tuple[Dim, ...], heads: tuple[Dim, ...]) -> Node:
    """`x` as [batch, heads, length, size]; symbolic heads are counted as batch."""
    whole = emit.broadcast(x, (*outer, *heads, *x.shape[-2:]) if x.tensor.rank > 2 else x.shape)
    fixed = isinstance(heads[0], int)
    shape = (product(outer), heads[0]) if fixed else (product((*outer, *heads)), 1)
    return emit.reshape(whole, (*shape, *x.shape[-2:]))


def _mask(emit: Emitter, mask: Node, query: Node, key: Node) -> Node:
    """The mask as it is when it grows to [batch, heads, Tq, Tk] by itself."""
    mask = mask if mask.dtype is DType.BOOL else emit.cast(mask, DType.FLOAT32)
    batch, lengths = query.shape[:-2], (query.shape[-2], key.shape[-2])
    known = isinstance(batch[-1] if batch else 1, int)
    if mask.tensor.rank <= 4 and query.tensor.rank == 4 and known:
        return emit.reshape(mask, (*[1] * (4 - mask.tensor.rank), *mask.shape))
    whole = emit.broadcast(mask, (*batch, *lengths))
    shape = (product(batch[:-1]), batch[-1]) if batch and known else (product(batch), 1)
    return emit.reshape(whole, (*shape, *lengths))


def _static(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise Unlowered("attention whose head size or head count is symbolic")
    return dim


def _cache_write(layout: str) -> Rule:
    def rule(emit: Emitter, cache: Node, rows: Node, slots: Node) -> Node:
        return emit.add("cache_write", cache, emit.cast(rows, cache.dtype), slots, layout=layout)

    return rule


def _paged_attention(emit: Emitter, *args: Any) -> Node:
    tensors: Sequence[Node] = args[:6]
    scale, window = args[6:]
    return emit.add("paged_attention", *tensors, scale=float(scale), window=int(window))


def _grouped_linear(emit: Emitter, x: Node, weight: Node, experts: Node) -> Node:
    return emit.add("grouped_dot", x, weight, experts, dtype=emit.dtype)


def _grouped_matrix(
    emit: Emitter, x: Node, weight: Node, ends: Node | None, bias: Node | None = None, *_: Any
) -> Node:
    """Rows in groups, one for each matrix of `weight` [E,K,N]; group e stops before ends[e]."""
    if ends is None or bias is not None or (x.tensor.rank, weight.tensor.rank) != (2, 3):
        raise Unlowered("grouped product whose groups are not rows, or with a bias")
    groups, rows = ends.shape[0], x.shape[0]
    numbers = emit.broadcast(emit.add("iota", size=rows, dtype=DType.INT64), (groups, rows))
    stops = emit.reshape(emit.cast(ends, DType.INT64), (groups, 1))
    passed = emit.add("ge", numbers, emit.broadcast(stops, (groups, rows)))
    experts = emit.reduce(emit.cast(passed, DType.INT64), (0,), "sum")
    last = emit.scalar("min", experts, groups - 1)
    transposed = emit.add("permute", weight, order=(0, 2, 1))
    result = emit.add("grouped_dot", x, transposed, last, dtype=emit.dtype)
    # Rows behind the last group belong to nobody and are 0.
    owned = emit.reshape(emit.scalar("lt", experts, groups), (rows, 1))
    zero = emit.constant(0.0, emit.dtype, result.shape)
    return emit.add("where", emit.broadcast(owned, result.shape), result, zero)


def _quantized_linear(emit: Emitter, x: Node, *rest: Any) -> Node:
    weight, scales, zeros, bias, layout, group, rows, activation = rest
    parts = [x, weight, scales, *([] if zeros is None else [zeros])]
    wide = emit.add(
        "quantized_linear",
        *parts,
        format=str(layout),
        group=int(group),
        rows=int(rows),
        activation=str(activation),
        dtype=emit.dtype if bias is None else DType.FLOAT32,
    )
    if bias is None:
        return wide
    biased = emit.add("add", wide, emit.operand(bias, DType.FLOAT32, wide.shape))
    return emit.cast(biased, emit.dtype)


RULES: Mapping[str, Rule] = {
    **{f"aten.{name}.default": _plain_product for name in ("mm", "bmm")},
    "aten.linear.default": _linear,
    **{f"aten.{name}.default": _add_product for name in ("addmm", "baddbmm")},
    "aten.scaled_dot_product_attention.default": _attention,
    "banyan.cache_write_keys.default": _cache_write("keys"),
    "banyan.cache_write_values.default": _cache_write("values"),
    "banyan.paged_attention.default": _paged_attention,
    "banyan.grouped_linear.default": _grouped_linear,
    "banyan.quantized_linear.default": _quantized_linear,
    "transformers.grouped_mm_fallback.default": _grouped_matrix,
    "aten._grouped_mm.default": _grouped_matrix,
}
"""Rules by the name of the ATen overload."""
