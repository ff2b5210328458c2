"""What a `quantized_linear` node may be: formats of weights, groups, scales and zeros.

The weight has N rows; x times its transpose has the sums in float32.

- format "int8": weight i8[N, K], scales f32[N, K/group].
- format "int4": weight u8[N, K/2], two values 0..15 in a byte, the low nibble first; scales
  f32[N, K/group]; zeros u8[N, K/group], 8 where absent.
- format "fp8": weight f8e4m3[N, K]; scales f32[ceil(N/rows), ceil(K/group)], `rows` an attribute.
- activation "plain": x as it is. "int8": each row of x is rounded, half to even, to multiples of
  its largest magnitude / 127 (of 1 for a row of zeros), and the scales apply to whole sums.

Two more operations appear when weights are packed, in the layout that `micro_kernels/README.md`
tells: `quantize_rows{group}` gives each row as bytes with its step and the sums of its groups, and
`quantized_dot` multiplies such rows (or plain ones) by packed weights and scales.
"""

from typing import Any

from banyan.compiler.ir.symbols import ceil_divide
from banyan.compiler.ir.type_rules import Call, Rule
from banyan.compiler.ir.types import DType, TensorType, ValueType

STORED = {"int8": DType.INT8, "int4": DType.UINT8, "fp8": DType.FLOAT8_E4M3}
"""Element type of the weight in each format."""

ACTIVATIONS = ("plain", "int8")

MIDDLE = 8
"""The zero of 4-bit weights that carry none."""

BLOCK_COLUMNS = 64
"""Columns that lie next to each other in packed quantised weights."""

LINE_BYTES = 256
"""What 64 columns store of 4 bytes, or of 8 values of 4 bits, along the contracted dim."""

DEPTH_MULTIPLE = 64
"""The contracted dim is padded to it."""


def _unpack(call: Call) -> ValueType:
    (packed,) = call.types
    call.require(packed.dtype is DType.UINT8 and call.attrs["bits"] == 4, "takes u8 and bits 4")
    return TensorType((*packed.shape[:-1], packed.shape[-1] * 2), DType.UINT8, packed.space)


def _quantized_linear(call: Call) -> ValueType:
    x, weight, scales, *zeros = call.types
    layout, group, rows = call.attrs["format"], call.attrs["group"], call.attrs.get("rows", 1)
    call.require(layout in STORED, f"format is one of {', '.join(STORED)}")
    known = call.attrs["activation"] in ACTIVATIONS
    call.require(known, f"activation is one of {', '.join(ACTIVATIONS)}")
    stored = weight.dtype is STORED[layout] and weight.rank == 2
    call.require(stored, f"an {layout} weight is {STORED[layout].value} with two dims")
    columns, depth = weight.shape[0], weight.shape[1] * (2 if layout == "int4" else 1)
    call.require(x.shape[-1] == depth, "contracted sizes differ")
    whole = layout == "fp8" or (depth % group == 0 and rows == 1)
    call.require(whole, _group_advice(depth, group))
    blocks = (ceil_divide(columns, rows), ceil_divide(depth, group))
    wanted = TensorType(blocks, DType.FLOAT32, scales.space)
    call.require(scales == wanted, f"scales must be {wanted}")
    if zeros:
        fits = layout == "int4" and zeros == [TensorType(blocks, DType.UINT8, scales.space)]
        call.require(fits, "zeros are u8 in the shape of the scales, and for int4 only")
    return TensorType((*x.shape[:-1], columns), call.attrs["dtype"], x.space)


def _group_advice(depth: Any, group: int) -> str:
    told = f"groups of {group} do not divide the width {depth}"
    fitting = [size for size in (32, 64, 128) if isinstance(depth, int) and depth % size == 0]
    nearest = min(fitting, key=lambda size: abs(size - group), default=depth)
    return f"{told}; the nearest group that does is {nearest}"


def _quantize_rows(call: Call) -> ValueType:
    (x,) = call.types
    width = row_bytes(x.shape[-1], call.attrs["group"])
    return TensorType((*x.shape[:-1], width), DType.INT8, x.space)


def _quantized_dot(call: Call) -> ValueType:
    x, lines, scales, *zeros = call.types
    depth, group = call.attrs["depth"], call.attrs["group"]
    width = row_bytes(depth, group) if call.attrs["activation"] == "int8" else depth
    call.require(x.shape[-1] == width, f"rows of {width} elements")
    blocks = lines.shape[0]
    stored = (blocks, *weight_shape(call.attrs["format"], 1, depth)[1:])
    call.require(lines.shape == stored, f"the weight must be u8{stored}")
    wanted = (blocks, ceil_divide(depth, group), BLOCK_COLUMNS)
    same = all(scale.shape == wanted for scale in (scales, *zeros))
    call.require(same, f"scales and zeros must be {wanted}")
    return TensorType((*x.shape[:-1], call.attrs["columns"]), call.attrs["dtype"], x.space)


def weight_shape(layout: str, columns: int, depth: int) -> tuple[int, int, int]:
    """The shape in which a [columns, depth] weight is packed, in bytes."""
    padded = -(-depth // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    return -(-columns // BLOCK_COLUMNS), padded // (8 if layout == "int4" else 4), LINE_BYTES


def row_bytes(depth: int, group: int) -> int:
    """Bytes of one row of `depth` quantised activations."""
    values = -(-depth // DEPTH_MULTIPLE) * DEPTH_MULTIPLE
    total = values + -(-4 * (1 + -(-depth // group)) // 64) * 64
    return total + 64 if total % 1024 == 0 else total


QUANTIZED_RULES: dict[str, Rule] = {
    "unpack": _unpack,
    "quantized_linear": _quantized_linear,
    "quantize_rows": _quantize_rows,
    "quantized_dot": _quantized_dot,
}
