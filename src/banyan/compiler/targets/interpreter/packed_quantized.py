"""Quantised weights and activations in the layout of `micro_kernels/README.md`, in NumPy."""

import numpy as np

from banyan.compiler.ir.packing import QUANTIZED_NIBBLES, columns_for_each
from banyan.compiler.ir.quantized import BLOCK_COLUMNS, DEPTH_MULTIPLE, row_bytes, weight_shape
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.interpreter import quantized
from banyan.compiler.targets.interpreter.arithmetic import Array, Attributes, Values, wide

_ORDER = (0, 2, 1, 3)  # its own inverse
_SIGN = 0x80


def pack_quantized(array: Array, packing: str, blocks: int) -> Array:
    """A weight, scales or zeros as kernels read them, `blocks` times 64 columns wide."""
    shared = columns_for_each(packing)
    if shared is not None:
        repeated = np.repeat(array, shared, axis=0)
        whole = _padded(repeated[: blocks * BLOCK_COLUMNS], blocks * BLOCK_COLUMNS, array.shape[1])
        split = whole.reshape(blocks, BLOCK_COLUMNS, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(split)
    nibbles = packing == QUANTIZED_NIBBLES
    plain = quantized.unpack((array,), {}) if nibbles else array.view(np.uint8)
    if array.dtype == np.int8:
        plain = plain ^ _SIGN
    layout = "int4" if nibbles else "int8"
    shape = weight_shape(layout, blocks * BLOCK_COLUMNS, plain.shape[1])
    depth = -(-plain.shape[1] // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    fours = _padded(plain, blocks * BLOCK_COLUMNS, depth)
    fours = fours.reshape(blocks, BLOCK_COLUMNS, depth // 4, 4)[..., _ORDER].transpose(0, 2, 1, 3)
    if nibbles:
        fours = fours[:, 0::2] | fours[:, 1::2] << 4
    return np.ascontiguousarray(fours).reshape(shape)


def unpack_quantized(lines: Array, layout: str, depth: int) -> Array:
    """The weight [blocks * 64, depth] before zeros and scales."""
    blocks = lines.shape[0]
    fours = lines.reshape(blocks, -1, BLOCK_COLUMNS, 4)
    if layout == "int4":
        fours = np.stack([fours & 15, fours >> 4], axis=2).reshape(blocks, -1, BLOCK_COLUMNS, 4)
    plain = fours[..., _ORDER].transpose(0, 2, 1, 3).reshape(blocks * BLOCK_COLUMNS, -1)[:, :depth]
    if layout == "int8":
        return np.ascontiguousarray(plain ^ _SIGN).view(np.int8)
    return np.ascontiguousarray(plain).view(DType.FLOAT8_E4M3.numpy) if layout == "fp8" else plain


def quantize_rows(values: Values, attrs: Attributes) -> Array:
    """Each row as bytes, its step, and the sums of its groups."""
    x, group = wide(values[0]), attrs["group"]
    depth = x.shape[-1]
    whole, step = quantized.quantize_rows(x)
    flat = whole.reshape(-1, depth).astype(np.int8)
    starts = range(0, depth, group)
    sums = np.add.reduceat(flat.astype(np.int32), starts, axis=1, dtype=np.int32)
    stored = np.zeros((len(flat), row_bytes(depth, group)), np.int8)
    padded = -(-depth // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    numbers = _padded(flat, len(flat), padded)
    stored[:, :padded] = numbers.reshape(-1, padded // 4, 4)[..., _ORDER].reshape(-1, padded)
    tail = np.concatenate([step.reshape(-1, 1).view(np.int32), sums], axis=1)
    stored[:, padded : padded + 4 * tail.shape[1]] = np.ascontiguousarray(tail).view(np.int8)
    return stored.reshape(*x.shape[:-1], -1)


def quantized_dot(values: Values, attrs: Attributes) -> Array:
    """Product of rows, quantised or plain, and a packed weight; padding drops out."""
    rows, lines, *blocks = values
    depth, columns, layout = attrs["depth"], attrs["columns"], attrs["format"]
    weight = unpack_quantized(lines, layout, depth)
    if layout == "int4":
        pairs = weight.reshape(len(weight), -1, 2)
        weight = (pairs[..., 0] | pairs[..., 1] << 4).astype(np.uint8)
    spread = [block.transpose(0, 2, 1).reshape(len(weight), -1) for block in blocks]
    found = quantized.dequantized((weight, *spread), {**attrs, "rows": 1})[:columns]
    if attrs["activation"] == "plain":
        result: Array = wide(rows) @ found.T
        return result
    padded = -(-depth // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    fours = rows[..., :padded].reshape(*rows.shape[:-1], -1, 4)[..., _ORDER]
    whole = fours.reshape(*rows.shape[:-1], -1)[..., :depth].astype(np.float32)
    step = np.ascontiguousarray(rows[..., padded : padded + 4]).view(np.float32)
    scaled: Array = (whole @ found.T) * step
    return scaled


def _padded(array: Array, rows: int, columns: int) -> Array:
    grown = np.zeros((rows, columns), array.dtype)
    grown[: array.shape[0], : array.shape[1]] = array
    return grown
