"""ATen operations that contract: matrix products, linear layers, attention, our own."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from banyan.compiler.capture.aten_reduce import Unlowered
from banyan.compiler.capture.emitter import Emitter, Number, Rule
from banyan.compiler.ir.graph import Node
from banyan.compiler.ir.symbols import Dim, product
from banyan.compiler.ir.types import DType

F32 = DType.FLOAT32


def _dot(a: Node, b: Node, dtype: DType = F32, *, transpose_b: bool = False) -> Node:
    return a.apply("dot", b, transpose_b=transpose_b, dtype=dtype)


def _plain_product(emit: Emitter, a: Node, b: Node, *_: Any) -> Node:
    return _dot(a, b, emit.dtype)


def _linear(emit: Emitter, x: Node, weight: Node, bias: Node | None = None) -> Node:
    if weight.tensor.rank != 2:
        raise Unlowered("linear with a weight that is no matrix")
    flat = x.reshape((product(x.shape[:-1]), x.shape[-1]))
    wide = _dot(flat, weight, emit.dtype if bias is None else F32, transpose_b=True)
    return _biased(wide, bias).cast(emit.dtype).reshape(emit.shape)


def _biased(x: Node, bias: Node | None) -> Node:
    return x if bias is None else x + bias.cast(F32)


def _add_product(
    emit: Emitter, bias: Node, a: Node, b: Node, beta: Number = 1, alpha: Number = 1
) -> Node:
    wide = _dot(a, b)
    scaled = wide if alpha == 1 else wide * alpha
    if beta == 0:  # then nobody looks at the bias, NaN or not
        return scaled.cast(emit.dtype)
    offset = bias.cast(F32).expand(wide.shape)
    return (scaled + (offset if beta == 1 else offset * beta)).cast(emit.dtype)


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
        _with_heads(x, outer, own) for x, own in ((query, heads), (key, groups), (value, groups))
    ]
    if mask is not None:
        tensors.append(_mask(mask, query, key))
    factor = 1.0 / math.sqrt(_static(query.shape[-1])) if scale is None else float(scale)
    node = emit.add("attention_forward", *tensors, causal=bool(causal), scale=factor)
    return node.apply("get", index=0).reshape(emit.shape)


def _with_heads(x: Node, outer: tuple[Dim, ...], heads: tuple[Dim, ...]) -> Node:
    """`x` as [batch, heads, length, size]; symbolic heads are counted as batch."""
    whole = x.expand((*outer, *heads, *x.shape[-2:]) if x.tensor.rank > 2 else x.shape)
    fixed = isinstance(heads[0], int)
    shape = (product(outer), heads[0]) if fixed else (product((*outer, *heads)), 1)
    return whole.reshape((*shape, *x.shape[-2:]))


def _mask(mask: Node, query: Node, key: Node) -> Node:
    """The mask as it is when it grows to [batch, heads, Tq, Tk] by itself."""
    mask = mask if mask.dtype is DType.BOOL else mask.cast(F32)
    batch, lengths = query.shape[:-2], (query.shape[-2], key.shape[-2])
    known = isinstance(batch[-1] if batch else 1, int)
    if mask.tensor.rank <= 4 and query.tensor.rank == 4 and known:
        return mask.reshape((*[1] * (4 - mask.tensor.rank), *mask.shape))
    shape = (product(batch[:-1]), batch[-1]) if batch and known else (product(batch), 1)
    return mask.expand((*batch, *lengths)).reshape((*shape, *lengths))


def _static(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise Unlowered("attention whose head size or head count is symbolic")
    return dim


def _cache_write(layout: str) -> Rule:
    return lambda _, cache, rows, slots: cache.apply(
        "cache_write", rows.cast(cache.dtype), slots, layout=layout
    )


def _cache_write_quantized(
    emit: Emitter, cache: Node, scales: Node, rows: Node, slots: Node, layout: str
) -> tuple[Node, Node]:
    written = emit.add("cache_write_quantized", cache, scales, rows, slots, layout=layout)
    return written.apply("get", index=0), written.apply("get", index=1)


def _paged_attention_quantized(emit: Emitter, *args: Any) -> Node:
    queries, keys, values, key_scales, value_scales, *where = args[:8]
    scale, window = args[8:]
    tensors: Sequence[Node] = (queries, keys, values, *where, key_scales, value_scales)
    return emit.add("paged_attention", *tensors, scale=float(scale), window=int(window))


def _paged_attention(emit: Emitter, *args: Any) -> Node:
    tensors: Sequence[Node] = args[:6]
    scale, window = args[6:]
    return emit.add("paged_attention", *tensors, scale=float(scale), window=int(window))


def _paged_latent_attention(emit: Emitter, *args: Any) -> Node:
    tensors: Sequence[Node] = args[:5]
    scale, window, size = args[5:]
    return emit.add(
        "paged_latent_attention",
        *tensors,
        scale=float(scale),
        window=int(window),
        value_size=int(size),
    )


def _grouped_linear(emit: Emitter, x: Node, weight: Node, experts: Node) -> Node:
    return x.apply("grouped_dot", weight, experts, dtype=emit.dtype)


def _grouped_matrix(
    emit: Emitter, x: Node, weight: Node, ends: Node | None, bias: Node | None = None, *_: Any
) -> Node:
    """Rows in groups, one for each matrix of `weight` [E,K,N]; group e stops before ends[e]."""
    if ends is None or bias is not None or (x.tensor.rank, weight.tensor.rank) != (2, 3):
        raise Unlowered("grouped product whose groups are not rows, or with a bias")
    groups, rows = ends.shape[0], x.shape[0]
    passed = emit.iota(rows) >= ends.cast(DType.INT64).reshape((groups, 1))
    experts = passed.cast(DType.INT64).reduce("sum", (0,))
    last = experts.binary("min", groups - 1)
    result = _grouped_linear(emit, x, weight.permute((0, 2, 1)), last)
    # Rows behind the last group belong to nobody and are 0.
    return (experts < groups).reshape((rows, 1)).choose(result, 0.0)


def _quantized_linear(emit: Emitter, x: Node, *rest: Any) -> Node:
    weight, scales, zeros, bias, layout, group, rows, activation = rest
    wide = emit.add(
        "quantized_linear",
        *(part for part in (x, weight, scales, zeros) if part is not None),
        format=str(layout),
        group=int(group),
        rows=int(rows),
        activation=str(activation),
        dtype=emit.dtype if bias is None else F32,
    )
    return _biased(wide, bias).cast(emit.dtype)


RULES: Mapping[str, Rule] = {
    **{f"aten.{name}.default": _plain_product for name in ("mm", "bmm")},
    "aten.linear.default": _linear,
    **{f"aten.{name}.default": _add_product for name in ("addmm", "baddbmm")},
    "aten.scaled_dot_product_attention.default": _attention,
    "banyan.cache_write_keys.default": _cache_write("keys"),
    "banyan.cache_write_values.default": _cache_write("values"),
    "banyan.paged_attention.default": _paged_attention,
    "banyan.paged_latent_attention.default": _paged_latent_attention,
    "banyan.cache_write_quantized.default": _cache_write_quantized,
    "banyan.paged_attention_quantized.default": _paged_attention_quantized,
    "banyan.grouped_linear.default": _grouped_linear,
    "banyan.quantized_linear.default": _quantized_linear,
    "transformers.grouped_mm_fallback.default": _grouped_matrix,
    "aten._grouped_mm.default": _grouped_matrix,
}
"""Rules by the name of the ATen overload."""
