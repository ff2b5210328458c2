"""Type rules of the operations under "models": attention and caches, kept whole while it helps."""

from collections.abc import Mapping
from typing import Any

from banyan.compiler.ir.type_rules import Attributes, Rule, require
from banyan.compiler.ir.types import DType, TensorType, TupleType, ValueType


def _attention_forward(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    query, key, value = types[:3]
    _require_heads(op, types, query, key, value)
    _require_mask(op, types, types[3:], (*query.shape[:3], key.shape[2]))
    _ = attrs["causal"], attrs["scale"]
    output = TensorType((*query.shape[:3], value.shape[3]), query.dtype, query.space)
    return TupleType((output, TensorType(query.shape[:3], DType.FLOAT32, query.space)))


def _attention_backward(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    gradient, query, key, value, output, lse = types[:6]
    _require_heads(op, types, query, key, value)
    _require_mask(op, types, types[6:], (*query.shape[:3], key.shape[2]))
    require(gradient == output, op, types, "the gradient has the type of the output")
    fits = lse.shape == query.shape[:3] and lse.dtype is DType.FLOAT32
    require(fits, op, types, "lse is float32 with one number for each query")
    _ = attrs["causal"], attrs["scale"]
    return TupleType((query, key, value))


def _require_heads(op: str, types: tuple[Any, ...], query: Any, key: Any, value: Any) -> None:
    require(
        query.rank == key.rank == value.rank == 4, op, types, "takes [batch, heads, length, size]"
    )
    require(query.shape[3] == key.shape[3], op, types, "head sizes differ")
    require(key.shape[:3] == value.shape[:3], op, types, "keys and values differ")
    require(query.shape[0] == key.shape[0], op, types, "batches differ; use expand")
    heads, groups = query.shape[1], key.shape[1]
    fixed = isinstance(heads, int) and isinstance(groups, int)
    require(fixed and heads % groups == 0, op, types, "query heads must be whole groups")


def _require_mask(op: str, types: tuple[Any, ...], mask: Any, shape: tuple[Any, ...]) -> None:
    if not mask:
        return
    fits = len(mask) == 1 and mask[0].rank == 4
    fits = fits and all(have in (1, want) for have, want in zip(mask[0].shape, shape, strict=True))
    kind = fits and mask[0].dtype in {DType.BOOL, DType.FLOAT32}
    require(kind, op, types, "the mask is bool or float32 and grows to [batch, heads, Tq, Tk]")


def _cache_write(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    cache, rows, slots = types
    require(cache.rank == 5 and rows.rank == 3, op, types, "takes a cache and [T,H,D] rows")
    require(cache.shape[1] == rows.shape[1], op, types, "head counts differ")
    require(slots.shape == rows.shape[:1], op, types, "one slot for each row")
    require(attrs["layout"] in ("keys", "values"), op, types, "layout is keys or values")
    return cache  # type: ignore[no-any-return]


def _cache_write_quantized(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    cache, scales, rows, slots = types
    _cache_write(op, (cache, rows, slots), attrs)
    require(cache.dtype is DType.INT8, op, types, "the cache holds int8")
    _require_scales(op, types, cache, scales)
    return TupleType((cache, scales))


def _require_scales(op: str, types: tuple[Any, ...], cache: Any, scales: Any) -> None:
    fits = scales.shape[:2] == cache.shape[:2] and scales.rank == 3 and scales.shape[2] == 16
    require(
        fits and scales.dtype is DType.FLOAT32,
        op,
        types,
        "one float32 scale for each row of a head",
    )


def _paged_attention(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    query, keys, values, tables, starts, lengths, *scales = types
    is_int8 = keys.dtype is DType.INT8
    require(len(scales) == (2 if is_int8 else 0), op, types, "int8 caches have scales")
    require(not is_int8 or query.dtype is DType.BFLOAT16, op, types, "int8 needs bfloat16 queries")
    for cache, scale in zip((keys, values), scales, strict=False):
        _require_scales(op, types, cache, scale)
    require(query.rank == 3, op, types, "queries are [T,H,D]")
    require(query.shape[1] % keys.shape[1] == 0, op, types, "query heads must be whole groups")
    require(tables.shape[0] == lengths.shape[0], op, types, "one table for each sequence")
    _ = attrs["scale"], attrs["window"], values, starts
    return query  # type: ignore[no-any-return]


def _paged_latent_attention(op: str, types: tuple[Any, ...], attrs: Attributes) -> ValueType:
    query, cache, tables, starts, lengths = types
    size, (_, heads, lines, _, pack) = attrs["value_size"], cache.shape
    require(query.rank == 3 and heads == 1, op, types, "queries are [T,H,D], keys have one head")
    require(query.shape[2] == lines * pack, op, types, "the cache holds keys of another size")
    require(0 < size <= query.shape[2] and size % pack == 0, op, types, "values begin their keys")
    require(tables.shape[0] == lengths.shape[0], op, types, "one table for each sequence")
    _ = attrs["scale"], attrs["window"], starts
    return TensorType((*query.shape[:2], size), query.dtype, query.space)


MODEL_RULES: Mapping[str, Rule] = {
    "attention_forward": _attention_forward,
    "attention_backward": _attention_backward,
    "cache_write": _cache_write,
    "cache_write_quantized": _cache_write_quantized,
    "paged_attention": _paged_attention,
    "paged_latent_attention": _paged_latent_attention,
}
"""By the name of the operation."""
