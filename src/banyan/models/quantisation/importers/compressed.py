"""compressed-tensors and fp8: weights in rows as they are multiplied, scales beside them.

Packed: weight_packed int32 [N, K * bits/32], low bits first, values shifted up to be unsigned;
weight_scale [N, G]; weight_zero_point int32 [N * bits/32, G], packed along the rows and shifted in
the same way, or int8 [N, G] not shifted; weight_shape int64 [2]; weight_g_idx as in GPTQ.
Plain: weight int8 or f8e4m3 [N, K]; weight_scale, or weight_scale_inv for blocks, of one number,
one for each row, group, or block.
"""

from functools import partial

import numpy as np

from banyan.models.quantisation.importers.layer import (
    FLOATS,
    Array,
    ImportedLayer,
    LayerReader,
    Part,
    as_float32,
    nibbles,
    pack_nibbles,
)
from banyan.models.quantisation.scheme import LinearScheme

_MIDDLE_OF_BYTE = 128
_MIDDLE_OF_NIBBLE = 8


def import_packed(reader: LayerReader) -> ImportedLayer:
    """Read one layer of integers packed into words; raises `ModelError` when it does not fit."""
    settings = reader.settings
    size, groups = reader.groups()
    per_word = 32 // settings.bits
    if reader.has("weight_g_idx"):
        raise reader.refusal(
            "has inputs in an order of groups (weight_g_idx), which is not read in this format; "
            "use a checkpoint made without it"
        )
    words = (reader.columns, -(-reader.depth // per_word))
    parts = {"scales": _scales(reader, "weight_scale", (reader.columns, groups))}
    weight = reader.expect("weight_packed", ("I32",), words)
    if settings.bits == 8:
        _refuse_zeros(reader)
        parts["weight"] = Part((weight,), partial(_octets, depth=reader.depth))
        return ImportedLayer(LinearScheme("int8", size, activation=settings.activation), parts)
    parts["weight"] = Part((weight,), partial(_packed_nibbles, depth=reader.depth))
    if not settings.symmetric:
        parts["zeros"] = _zeros(reader, groups)
    scheme = LinearScheme("int4", size, activation=settings.activation, zeros="zeros" in parts)
    return ImportedLayer(scheme, parts)


def import_plain(reader: LayerReader) -> ImportedLayer:
    """Read one layer of int8 or fp8 numbers; raises `ModelError` when it does not fit."""
    settings = reader.settings
    stored = "I8" if settings.kind == "int" else "F8_E4M3"
    weight = reader.expect("weight", (stored,), (reader.columns, reader.depth))
    parts = {"weight": Part((weight,), np.asarray)}
    name = "weight_scale_inv" if reader.has("weight_scale_inv") else "weight_scale"
    if settings.strategy == "block":
        size, rows = settings.group or reader.depth, settings.rows
        blocks = (-(-reader.columns // rows), -(-reader.depth // size))
        parts["scales"] = _scales(reader, name, blocks)
        return ImportedLayer(LinearScheme("fp8", size, rows), parts)
    _refuse_zeros(reader)
    size, groups = reader.groups()
    parts["scales"] = _scales(reader, name, (reader.columns, groups))
    layout = "int8" if settings.kind == "int" else "fp8"
    return ImportedLayer(LinearScheme(layout, size, activation=settings.activation), parts)


def _scales(reader: LayerReader, name: str, shape: tuple[int, int]) -> Part:
    """Scales of `shape`; where one number or one column is enough, that is spread."""
    found = reader.shape(name)
    if shape[1] == 1 and found in ((), (1,), (1, 1)):
        source = reader.expect(name, FLOATS, found)
        return Part((source,), partial(_spread, shape=shape))
    if shape[1] == 1 and found == (shape[0],):
        source = reader.expect(name, FLOATS, found)
        return Part((source,), partial(_reshaped, shape=shape))
    return Part((reader.expect(name, FLOATS, shape),), as_float32)


def _zeros(reader: LayerReader, groups: int) -> Part:
    if reader.has("weight_zero_point") and reader.dtype("weight_zero_point") == "I8":
        name = reader.expect("weight_zero_point", ("I8",), (reader.columns, groups))
        return Part((name,), _shifted)
    words = (-(-reader.columns // 8), groups)
    name = reader.expect("weight_zero_point", ("I32",), words)
    return Part((name,), partial(_packed_zeros, columns=reader.columns))


def _refuse_zeros(reader: LayerReader) -> None:
    name = "weight_zero_point"
    if reader.has(name) and np.any(reader.weights.read_stored(f"{reader.layer}.{name}") != 0):
        raise reader.refusal(f"has 8-bit weights with a {name} other than 0; supported is 0")


def _packed_nibbles(words: Array, *, depth: int) -> Array:
    return pack_nibbles(nibbles(words)[:, :depth])


def _octets(words: Array, *, depth: int) -> Array:
    return (nibbles(words, bits=8)[:, :depth] ^ _MIDDLE_OF_BYTE).view(np.int8)


def _packed_zeros(words: Array, *, columns: int) -> Array:
    return np.ascontiguousarray(nibbles(np.ascontiguousarray(words.T))[:, :columns].T)


def _shifted(zeros: Array) -> Array:
    return (zeros + np.int8(_MIDDLE_OF_NIBBLE)).astype(np.uint8)


def _spread(scale: Array, *, shape: tuple[int, int]) -> Array:
    return np.full(shape, scale.astype(np.float32).item(), np.float32)


def _reshaped(scales: Array, *, shape: tuple[int, int]) -> Array:
    return scales.astype(np.float32).reshape(shape)
