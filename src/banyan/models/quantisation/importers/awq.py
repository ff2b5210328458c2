"""AWQ, version "gemm": words along the outputs, their nibbles in an order of their own.

qweight int32 [K, N/8], qzeros int32 [G, N/8], scales [G, N]. Nibble i of word c, counted from the
low bits, belongs to column 8 c + (0, 2, 4, 6, 1, 3, 5, 7)[i].
"""

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

NIBBLE_OF_COLUMN = np.argsort((0, 2, 4, 6, 1, 3, 5, 7))
_PER_WORD = 8


def import_awq(reader: LayerReader) -> ImportedLayer:
    """Read one layer; raises `ModelError` when its tensors do not fit."""
    size, groups = reader.groups()
    if reader.columns % _PER_WORD != 0:
        raise reader.refusal(f"has {reader.columns} outputs, which words of 8 do not divide")
    words = reader.columns // _PER_WORD
    weight = reader.expect("qweight", ("I32",), (reader.depth, words))
    scales = reader.expect("scales", FLOATS, (groups, reader.columns))
    parts = {"weight": Part((weight,), _weight), "scales": Part((scales,), _scales)}
    if not reader.settings.symmetric:
        zeros = reader.expect("qzeros", ("I32",), (groups, words))
        parts["zeros"] = Part((zeros,), _zeros)
    scheme = LinearScheme("int4", size, zeros="zeros" in parts)
    return ImportedLayer(scheme, parts)


def _columns(words: Array) -> Array:
    """[n, N/8] words to [n, N] values in the order of the columns."""
    split = nibbles(words).reshape(*words.shape, _PER_WORD)
    return split[..., NIBBLE_OF_COLUMN].reshape(words.shape[0], -1)


def _weight(words: Array) -> Array:
    return pack_nibbles(np.ascontiguousarray(_columns(words).T))


def _zeros(words: Array) -> Array:
    return np.ascontiguousarray(_columns(words).T)


def _scales(scales: Array) -> Array:
    return np.ascontiguousarray(scales.T, np.float32)
