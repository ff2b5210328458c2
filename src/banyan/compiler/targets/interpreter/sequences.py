"""What attention, cache writes and row grouping mean, in the plainest NumPy."""

import numpy as np

from banyan.compiler.targets.interpreter.arithmetic import Array, Attributes, Values, wide

BLOCK = 16


def softmax(scores: Array) -> Array:
    """Softmax over the last axis in float32; rows without any key become zeros."""
    top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=-1, keepdims=True)
    result: Array = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return result


def attention(values: Values, attrs: Attributes) -> Array:
    """softmax(scale q k^T + mask) v; a bool mask keeps where True, a float mask is added."""
    query, key, value = (wide(v) for v in values[:3])
    scores = np.matmul(query, np.swapaxes(key, -1, -2)) * np.float32(attrs["scale"])
    if attrs["causal"]:
        rows, columns = scores.shape[-2:]
        scores = np.where(np.tri(rows, columns, dtype=bool), scores, -np.inf)
    if len(values) == 4:
        mask = values[3]
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + wide(mask)
    result: Array = np.matmul(softmax(scores), value)
    return result


def cache_write(values: Values, attrs: Attributes) -> Array:
    """A copy of the cache with `rows` [T, H, D] at their slots; negative slots are skipped."""
    cache, rows, slots = values[0].copy(), values[1], values[2]
    kept = slots >= 0
    blocks, offsets, rows = slots[kept] // BLOCK, slots[kept] % BLOCK, rows[kept]
    tokens, heads, size = rows.shape
    width = cache.shape[-1]
    if attrs["layout"] == "keys":
        cache[blocks, :, :, offsets, :] = rows.reshape(tokens, heads, size // width, width)
    else:
        cache[blocks, :, offsets // width, :, offsets % width] = rows
    return cache


def cached_rows(cache: Array, table: Array, length: int, layout: str) -> Array:
    """The first `length` rows [length, H, D] of one sequence, read through its block table."""
    blocks = wide(cache[table[: -(-length // BLOCK)]])
    if layout == "keys":
        # [n, H, D/p, 16, p] -> [n, 16, H, D]
        rows = blocks.transpose(0, 3, 1, 2, 4)
        rows = rows.reshape(*rows.shape[:3], -1)
    else:
        # [n, H, 16/p, D, p] -> [n, 16, H, D]
        rows = blocks.transpose(0, 2, 4, 1, 3)
        rows = rows.reshape(rows.shape[0], BLOCK, *rows.shape[3:])
    return rows.reshape(-1, *rows.shape[2:])[:length]


def paged_attention(values: Values, attrs: Attributes) -> Array:
    """Causal attention of new tokens over the cached rows of their sequences."""
    query, keys, cached, tables, starts, lengths = values
    result = np.zeros(query.shape, np.float32)
    for sequence, length in enumerate(lengths):
        first, last = int(starts[sequence]), int(starts[sequence + 1])
        if first == last:
            continue
        past = int(length) - (last - first)
        k = cached_rows(keys, tables[sequence], int(length), "keys")
        v = cached_rows(cached, tables[sequence], int(length), "values")
        group = query.shape[1] // k.shape[1]
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("thd,khd->htk", wide(query[first:last]), k) * np.float32(attrs["scale"])
        position = past + np.arange(last - first)[:, None]
        column = np.arange(int(length))[None, :]
        seen = column <= position
        if attrs["window"]:
            seen &= column > position - attrs["window"]
        weights = softmax(np.where(seen, scores, -np.inf))
        result[first:last] = np.einsum("htk,khd->thd", weights, v)
    return result


def group_rows(values: Values, attrs: Attributes) -> tuple[Array, Array]:
    """Row numbers ordered by expert (stable), and where each expert's rows start."""
    experts = values[0]
    order = np.argsort(experts, kind="stable").astype(np.int32)
    counts = np.bincount(experts, minlength=attrs["groups"])
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return order, starts
