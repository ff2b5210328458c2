"""Type rules of the operations under "models": attention and caches, kept whole while it helps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from banyan.compiler.ir.cached import CACHE_BLOCK, quantized_format
from banyan.compiler.ir.symbols import fixed
from banyan.compiler.ir.type_rules import Call, Rule
from banyan.compiler.ir.types import DType, TupleType, ValueType


def _attention_forward(call: Call) -> ValueType:
    query, key, value = call.types[:3]
    _require_heads(call, query, key, value)
    _require_mask(call, call.types[3:], (*query.shape[:3], key.shape[2]))
    _ = call.attrs["causal"], call.attrs["scale"]
    output = call.like((*query.shape[:3], value.shape[3]))
    return TupleType((output, call.like(query.shape[:3], DType.FLOAT32)))


def _attention_backward(call: Call) -> ValueType:
    gradient, query, key, value, output, lse = call.types[:6]
    _require_heads(call, query, key, value)
    _require_mask(call, call.types[6:], (*query.shape[:3], key.shape[2]))
    call.require(gradient == output, "the gradient has the type of the output")
    fits = lse.shape == query.shape[:3] and lse.dtype is DType.FLOAT32
    call.require(fits, "lse is float32 with one number for each query")
    _ = call.attrs["causal"], call.attrs["scale"]
    return TupleType((query, key, value))


def _require_heads(call: Call, query: Any, key: Any, value: Any) -> None:
    call.require(query.rank == key.rank == value.rank == 4, "takes [batch, heads, length, size]")
    call.require(query.shape[3] == key.shape[3], "head sizes differ")
    call.require(key.shape[:3] == value.shape[:3], "keys and values differ")
    call.require(query.shape[0] == key.shape[0], "batches differ; use expand")
    heads, groups = query.shape[1], key.shape[1]
    fixed = isinstance(heads, int) and isinstance(groups, int)
    call.require(fixed and heads % groups == 0, "query heads must be whole groups")


def _require_mask(call: Call, mask: Any, shape: tuple[Any, ...]) -> None:
    if not mask:
        return
    fits = len(mask) == 1 and mask[0].rank == 4
    fits = fits and all(have in (1, want) for have, want in zip(mask[0].shape, shape, strict=True))
    kind = fits and mask[0].dtype in {DType.BOOL, DType.FLOAT32}
    call.require(kind, "the mask is bool or float32 and grows to [batch, heads, Tq, Tk]")


def _cache_write(call: Call) -> ValueType:
    cache, rows, slots = call.types
    call.require(cache.rank == 5 and rows.rank == 3, "takes a cache and [T,H,D] rows")
    call.require(cache.shape[1] == rows.shape[1], "head counts differ")
    call.require(slots.shape == rows.shape[:1], "one slot for each row")
    call.require(call.attrs["layout"] in ("keys", "values"), "layout is keys or values")
    return call.first


def _cache_write_quantized(call: Call) -> ValueType:
    cache, scales, rows, slots = call.types
    _cache_write(replace(call, types=(cache, rows, slots)))
    call.require(quantized_format(cache.dtype) is not None, "the cache holds i8, f8e4m3 or u8")
    _require_scales(call, cache, scales)
    return TupleType((cache, scales))


def _require_scales(call: Call, cache: Any, scales: Any) -> None:
    form = quantized_format(cache.dtype)
    parts = 0 if form is None else form.parts
    fits = scales.shape[:2] == cache.shape[:2] and scales.shape[2:] == (parts, CACHE_BLOCK)
    exact = scales.dtype is DType.FLOAT32
    call.require(fits and exact, f"{parts} float32 numbers for each row of a head")


def _paged_attention(call: Call) -> ValueType:
    query, keys, values, tables, starts, lengths, *scales = call.types
    is_quantized = quantized_format(keys.dtype) is not None
    call.require(len(scales) == (2 if is_quantized else 0), "quantised caches have scales")
    narrow = not is_quantized or query.dtype is DType.BFLOAT16
    call.require(narrow, "quantised caches need bfloat16 queries")
    for cache, scale in zip((keys, values), scales, strict=False):
        _require_scales(call, cache, scale)
    call.require(query.rank == 3, "queries are [T,H,D]")
    call.require(query.shape[1] % keys.shape[1] == 0, "query heads must be whole groups")
    call.require(tables.shape[0] == lengths.shape[0], "one table for each sequence")
    _ = call.attrs["scale"], call.attrs["window"], values, starts
    return call.first


def _paged_latent_attention(call: Call) -> ValueType:
    query, cache, tables, starts, lengths = call.types
    size, (_, heads, lines, _, pack) = call.attrs["value_size"], cache.shape
    call.require(query.rank == 3 and heads == 1, "queries are [T,H,D], keys have one head")
    call.require(query.shape[2] == lines * pack, "the cache holds keys of another size")
    call.require(0 < size <= query.shape[2] and size % pack == 0, "values begin their keys")
    call.require(tables.shape[0] == lengths.shape[0], "one table for each sequence")
    _ = call.attrs["scale"], call.attrs["window"], starts
    return call.like((*query.shape[:2], size))


def _low_rank(call: Call) -> ValueType:
    x, down, up, chosen, *scales = call.types
    columns, pack = call.attrs["columns"], down.shape[-1]
    call.require(x.rank == 2 and down.rank == up.rank == 4, "takes [T,K] and two stacks of pairs")
    stored = DType.INT8 if scales else x.dtype
    call.require(stored is down.dtype is up.dtype, "factors are as the rows, or bytes with scales")
    call.require(x.shape[1] == down.shape[1] * pack, "contracted sizes differ")
    width, whole = up.shape[2], all(size % up.shape[2] == 0 for size in columns)
    call.require(whole, "layers have whole blocks of columns")
    num_adapters, rest = divmod(fixed(up.shape[0]) * width, sum(columns))
    each, left = divmod(fixed(down.shape[0]), num_adapters)
    call.require(rest == left == 0, "not a pair for each adapter")
    wide, rank = each * down.shape[2], up.shape[1] * up.shape[3]
    call.require(wide >= rank * len(columns), "a first factor for each layer")
    fits = all(scale.shape == (num_adapters, wide) for scale in scales)
    call.require(fits, "a scale for each column of the first factors")
    call.require(chosen.shape == x.shape[:1], "one adapter for each row")
    return call.like((x.shape[0], sum(columns)))


MODEL_RULES: Mapping[str, Rule] = {
    "attention_forward": _attention_forward,
    "attention_backward": _attention_backward,
    "cache_write": _cache_write,
    "cache_write_quantized": _cache_write_quantized,
    "paged_attention": _paged_attention,
    "paged_latent_attention": _paged_latent_attention,
    "low_rank": _low_rank,
}
"""By the name of the operation."""
