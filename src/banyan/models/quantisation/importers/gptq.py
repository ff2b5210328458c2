"""GPTQ: words along the inputs, zeros along the outputs, and perhaps inputs in an order of groups.

qweight int32 [K * bits/32, N], qzeros int32 [G, N * bits/32], scales [G, N], all low bits first;
g_idx int32 [K] is the group of each input. Checkpoints of format "gptq" store zeros less one,
those of "gptq_v2" as they are. Where g_idx is no plain count (activation order, `desc_act`) the
inputs are sorted by group, and the layer takes them in that order.
"""

from functools import partial

import numpy as np

from banyan.models.quantisation.importers.layer import (
    FLOATS,
    Array,
    ImportedLayer,
    LayerReader,
    Part,
    nibbles,
    pack_nibbles,
)
from banyan.models.quantisation.scheme import LinearScheme

_WORD_BITS = 32
_MIDDLE_OF_BYTE = 128


def import_gptq(reader: LayerReader) -> ImportedLayer:
    """Read one layer; raises `ModelError` when its tensors do not fit."""
    settings = reader.settings
    size, groups = reader.groups()
    per_word = _WORD_BITS // settings.bits
    if reader.depth % per_word or reader.columns % per_word:
        raise reader.refusal(
            f"is {reader.columns} x {reader.depth}, which words of {per_word} do not divide"
        )
    words = (reader.depth // per_word, reader.columns)
    weight = reader.expect("qweight", ("I32",), words)
    scales = reader.expect("scales", FLOATS, (groups, reader.columns))
    zeros = reader.expect("qzeros", ("I32",), (groups, reader.columns // per_word))
    order = _order(reader, size)
    sources = (weight,) if order is None else (weight, f"{reader.layer}.g_idx")
    parts = {"scales": Part((scales,), _scales)}
    zero_step = 1 if settings.old_zeros else 0
    if settings.bits == 4:
        parts["weight"] = Part(sources, _weight)
        parts["zeros"] = Part((zeros,), partial(_zeros, step=zero_step))
        scheme = LinearScheme("int4", size, zeros=True, ordered=order is not None)
    else:
        middles = _zeros(reader.weights.read_stored(zeros), bits=8, step=zero_step)
        if not np.all(middles == _MIDDLE_OF_BYTE):
            raise reader.refusal("has 8-bit weights with zeros other than 128; supported is 128")
        parts["weight"] = Part(sources, _octets)
        scheme = LinearScheme("int8", size, ordered=order is not None)
    if order is not None:
        parts["order"] = Part((f"{reader.layer}.g_idx",), _sorted_inputs)
    return ImportedLayer(scheme, parts)


def _order(reader: LayerReader, size: int) -> Array | None:
    """The order of the inputs by group; None when they lie in order."""
    if not reader.has("g_idx"):
        return None
    name = reader.expect("g_idx", ("I32", "I64"), (reader.depth,))
    index = reader.weights.read_stored(name)
    plain = np.arange(reader.depth) // size
    if np.array_equal(index, plain):
        return None
    if not np.array_equal(np.sort(index), plain):
        raise reader.refusal(f"has a g_idx that does not put {size} inputs into each group")
    return _sorted_inputs(index)


def _sorted_inputs(index: Array) -> Array:
    return np.argsort(index, kind="stable").astype(np.int64)


def _rows(words: Array, bits: int, index: Array | None) -> Array:
    """[K * bits/32, N] words to [N, K] values, inputs sorted by group."""
    values = nibbles(np.ascontiguousarray(words.T), bits=bits)
    return values if index is None else values[:, _sorted_inputs(index)]


def _weight(words: Array, index: Array | None = None) -> Array:
    return pack_nibbles(_rows(words, 4, index))


def _octets(words: Array, index: Array | None = None) -> Array:
    return (_rows(words, 8, index) ^ _MIDDLE_OF_BYTE).view(np.int8)


def _zeros(words: Array, *, bits: int = 4, step: int) -> Array:
    values = nibbles(words, bits=bits) + np.uint8(step)
    return np.ascontiguousarray(values.T)


def _scales(scales: Array) -> Array:
    return np.ascontiguousarray(scales.T, np.float32)
