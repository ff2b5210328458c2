"""What attention, cache writes and row grouping mean, in the plainest NumPy."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from banyan.compiler.ir.cached import NIBBLE_MIDDLE, CacheFormat, quantized_format
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.interpreter.arithmetic import (
    Array,
    Attributes,
    Values,
    pack_panels,
    unpack_panels,
    wide,
)
from banyan.compiler.targets.interpreter.quantized import unpack

BLOCK = 16


def softmax(scores: Array) -> Array:
    """Softmax over the last axis in float32; rows without any key become zeros."""
    top = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=-1, keepdims=True)
    result: Array = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return result


def _scores(query: Array, key: Array, mask: Values, attrs: Attributes) -> Array:
    scores = np.matmul(wide(query), np.swapaxes(wide(key), -1, -2)) * np.float32(attrs["scale"])
    if attrs["causal"]:
        rows, columns = scores.shape[-2:]
        scores = np.where(np.tri(rows, columns, dtype=bool), scores, -np.inf)
    if mask:
        hidden = mask[0].dtype == bool
        scores = np.where(mask[0], scores, -np.inf) if hidden else scores + wide(mask[0])
    found: Array = scores
    return found


def _for_every_head(x: Array, heads: int) -> Array:
    return np.repeat(wide(x), heads // x.shape[1], axis=1)


def attention_forward(values: Values, attrs: Attributes) -> tuple[Array, Array]:
    """softmax(scale q k^T + mask) v; a bool mask keeps where True, a float mask is added.

    And the log of each row's sum of exponentials (-inf where nothing is seen).
    """
    query, heads = values[0], values[0].shape[1]
    key, value = (_for_every_head(x, heads) for x in values[1:3])
    scores = _scores(query, key, values[3:], attrs)
    top = np.max(scores, axis=-1, initial=-np.inf)
    safe = np.where(np.isfinite(top), top, 0)
    lse = np.log(np.exp(scores - safe[..., None]).sum(axis=-1)) + safe
    return np.matmul(softmax(scores), value), lse


def attention_backward(values: Values, attrs: Attributes) -> tuple[Array, Array, Array]:
    """What the gradient of the output means for queries, keys and values."""
    gradient, query, output = (wide(values[i]) for i in (0, 1, 4))
    heads, groups = query.shape[1], values[2].shape[1]
    key, value = (_for_every_head(x, heads) for x in values[2:4])
    scores = _scores(query, key, values[6:], attrs)
    lse = values[5][..., None]
    weights = np.exp(scores - np.where(np.isfinite(lse), lse, 0))
    change = np.matmul(gradient, np.swapaxes(value, -1, -2))
    change = weights * (change - (gradient * output).sum(axis=-1, keepdims=True))
    change = change * np.float32(attrs["scale"])

    def of_group(x: Array) -> Array:
        summed: Array = x.reshape(x.shape[0], groups, heads // groups, *x.shape[2:]).sum(axis=2)
        return summed

    for_key = np.matmul(np.swapaxes(change, -1, -2), query)
    for_value = np.matmul(np.swapaxes(weights, -1, -2), gradient)
    return np.matmul(change, key), of_group(for_key), of_group(for_value)


def cache_write(values: Values, attrs: Attributes) -> Array:
    """A copy of the cache with `rows` [T, H, D] at their slots; negative slots are skipped.

    A value at the start of a block clears the block first.
    """
    cache, rows, slots = values[0].copy(), values[1], values[2]
    kept = slots >= 0
    blocks, offsets, rows = slots[kept] // BLOCK, slots[kept] % BLOCK, rows[kept]
    tokens, heads, size = rows.shape
    width = cache.shape[-1]
    if attrs["layout"] == "keys":
        cache[blocks, :, :, offsets, :] = rows.reshape(tokens, heads, size // width, width)
    else:
        cache[blocks[offsets == 0]] = 0
        cache[blocks, :, offsets // width, :, offsets % width] = rows
    return cache


def cache_write_quantized(values: Values, attrs: Attributes) -> tuple[Array, Array]:
    """The same for a quantised cache: each row of a head becomes numbers and a scale of its own.

    Formats as in `ir.cached`.
    """
    cache, scales, rows, slots = values[0], values[1].copy(), wide(values[2]), values[3]
    form = quantized_format(next(d for d in DType if d.numpy == cache.dtype))
    assert form is not None, "only quantised caches come here"
    numbers, beside = _quantized(rows, form)
    kept = slots >= 0
    blocks, offsets = slots[kept] // BLOCK, slots[kept] % BLOCK
    scales[blocks[offsets == 0]] = 0
    for part, number in enumerate(beside):
        scales[blocks, :, part, offsets] = number[kept]
    return cache_write((cache, numbers, slots), attrs), scales


def _quantized(rows: Array, form: CacheFormat) -> tuple[Array, list[Array]]:
    """Stored numbers [T, H, elements] of float32 rows, and what lies beside each row."""
    one, half = np.float32(1), np.float32(0.5)
    if form.numbers == 1:
        spread = np.abs(rows).max(axis=-1)
        low = np.zeros_like(spread)
    else:
        low = rows.min(axis=-1)
        spread = rows.max(axis=-1) - low
    scale = np.where(spread == 0, one, spread / np.float32(form.largest)).astype(np.float32)
    scaled = (rows - low[..., None]) / scale[..., None]
    if form.dtype is DType.FLOAT8_E4M3:
        # What another sequence left behind is multiplied by zero: it must not be NaN.
        return np.where(scaled == scaled, scaled, 0).astype(form.dtype.numpy), [scale]  # noqa: PLR0124
    rounded = np.floor(scaled + half)
    if form.numbers == 1:
        return rounded.astype(np.int8), [scale]
    nibbles = np.minimum(rounded, np.float32(form.largest)).astype(np.uint8)
    middle = low + scale * np.float32(NIBBLE_MIDDLE)
    return nibbles[..., 0::2] | nibbles[..., 1::2] << 4, [scale, middle]


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
    query, keys, cached, *where = values
    scales = where[3:]

    def rows(table: Array, length: int) -> tuple[Array, Array]:
        found = [
            cached_rows(keys, table, length, "keys"),
            cached_rows(cached, table, length, "values"),
        ]
        for i, beside in enumerate(scales):
            own = beside[table[: -(-length // BLOCK)]].transpose(2, 0, 3, 1)
            scale, *middle = own.reshape(len(own), -1, beside.shape[1], 1)[:, :length]
            if middle:
                numbers = unpack((found[i].astype(np.uint8),), {})
                found[i] = wide(numbers) - np.float32(NIBBLE_MIDDLE)
            found[i] = found[i] * scale + (middle[0] if middle else np.float32(0))
        return found[0], found[1]

    return _paged(query, where, rows, attrs)


def paged_latent_attention(values: Values, attrs: Attributes) -> Array:
    """The same where a value is the first part of its key."""
    query, keys, *where = values

    def rows(table: Array, length: int) -> tuple[Array, Array]:
        found = cached_rows(keys, table, length, "keys")
        return found, found[..., : attrs["value_size"]]

    return _paged(query, where, rows, attrs)


def _paged(
    query: Array,
    where: Sequence[Array],
    rows: Callable[[Array, int], tuple[Array, Array]],
    attrs: Attributes,
) -> Array:
    tables, starts, lengths = where[:3]
    found: list[Array] = []
    for sequence, length in enumerate(map(int, lengths)):
        first, last = int(starts[sequence]), int(starts[sequence + 1])
        past = length - (last - first)
        k, v = rows(tables[sequence], length)
        group = query.shape[1] // k.shape[1]
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("thd,khd->htk", wide(query[first:last]), k) * np.float32(attrs["scale"])
        position = past + np.arange(last - first)[:, None]
        column = np.arange(length)[None, :]
        seen = column <= position
        if attrs["window"]:
            seen &= column > position - attrs["window"]
        weights = softmax(np.where(seen, scores, -np.inf))
        found.append(np.einsum("htk,khd->thd", weights, v))
    # Rows behind the last sequence belong to nobody.
    result = np.zeros((*query.shape[:2], found[0].shape[2] if found else 0), np.float32)
    for sequence, part in enumerate(found):
        result[int(starts[sequence]) : int(starts[sequence + 1])] = part
    return result


def group_rows(values: Values, attrs: Attributes) -> tuple[Array, Array]:
    """Row numbers ordered by expert (stable), and where each expert's rows start."""
    experts = values[0]
    order = np.argsort(experts, kind="stable").astype(np.int32)
    starts = np.searchsorted(experts[order], np.arange(attrs["groups"] + 1))
    return order, starts.astype(np.int32)


def low_rank(values: Values, attrs: Attributes) -> Array:
    """What the adapter of each row adds; between the factors numbers have the type of the rows."""
    x, down, up, chosen, *scales = values
    rank = up.shape[1] * up.shape[-1]
    ends = np.cumsum([0, *attrs["columns"]])
    num_adapters = up.shape[0] * up.shape[2] // int(ends[-1])
    downs, ups = (part.reshape(num_adapters, -1, *part.shape[1:]) for part in (down, up))
    result = np.zeros((x.shape[0], int(ends[-1])), np.float32)
    for adapter in np.unique(chosen[chosen < num_adapters]):
        rows = chosen == adapter
        first, second = (unpack_panels(wide(part[adapter])) for part in (downs, ups))
        narrow = wide(x[rows]) @ first
        for scale in scales:
            narrow = narrow * scale[adapter]
        narrow = wide(narrow.astype(x.dtype))
        for part, (low, high) in enumerate(pairwise(ends)):
            own = narrow[:, part * rank : (part + 1) * rank]
            result[rows, low:high] = own @ second[:, low:high]
    return result


_JOINS: Mapping[str, Callable[[Array, Array], Array]] = {
    "set": lambda old, new: new,
    "add": np.add,
    "prod": np.multiply,
    "amax": np.maximum,
    "amin": np.minimum,
}


def scatter(values: Values, attrs: Attributes) -> Array:
    """Each row is written to its place, or joined with what is there, one after the other."""
    target, index, rows = values
    result, join = target.copy(), _JOINS[attrs["kind"]]
    batches, size, columns = target.shape
    for entry in range(rows.shape[1]):
        places = index[entry] if index.ndim == 1 else index[:, entry]
        places = np.broadcast_to(places, (batches, columns))
        batch, column = np.nonzero((places >= 0) & (places < size))
        where = (batch, places[batch, column], column)
        result[where] = join(result[where], rows[batch, entry, column])
    return result


def windows(values: Values, attrs: Attributes) -> Array:
    """What each place of a convolution sees, tap by tap of each channel."""
    border = attrs["border"]  # a negative one cuts off
    kept = tuple(slice(max(0, -low), -max(0, -high) or None) for low, high in border)
    added = tuple((max(0, low), max(0, high)) for low, high in border)
    x = np.pad(values[0][:, :, *kept], ((0, 0), (0, 0), *added))
    parts = []
    for tap in np.ndindex(tuple(attrs["kernel"])):
        cut: list[slice] = [slice(None), slice(None)]
        for axis, start in enumerate(tap):
            step, count = attrs["stride"][axis], attrs["places"][axis]
            first = start * attrs["dilation"][axis]
            cut.append(slice(first, first + (count - 1) * step + 1, step))
        parts.append(x[tuple(cut)])
    seen: Array = np.stack(parts, axis=2)
    depth, places = math.prod(seen.shape[1:3]), math.prod(seen.shape[3:])
    return seen.reshape((seen.shape[0], depth, places))


def window_panels(values: Values, attrs: Attributes) -> Array:
    """The same, packed like the transpose of a weight."""
    width, depth = attrs["shape"][-1], attrs["shape"][-3] * attrs["shape"][-1]
    return pack_panels(np.swapaxes(windows(values, attrs), 1, 2), width, depth)
