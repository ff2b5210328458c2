"""The micro-kernels that generated C++ may call.

Each record names a function of `micro_kernels/*.h`, what it needs from the CPU, and what it means:
a NumPy function that the tests hold it to. Everything here is pure; the machine is an argument.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.interpreter.quantized import quantize_rows
from banyan.devices.instruction_sets import INSTRUCTION_SETS
from banyan.foundation.errors import GraphError

KERNEL_DIRECTORY = Path(__file__).parent / "micro_kernels"
"""What generated programs pass to the compiler as `-I`."""

PANEL_COLUMNS = 16
"""Output columns that lie next to each other in packed weights."""

Array = NDArray[Any]


class Operation(Enum):
    """What a micro-kernel computes."""

    LINEAR = "linear"
    TILE_DOT = "tile_dot"
    QUANTIZE_ROWS = "quantize_rows"
    QUANTIZED_LINEAR = "quantized_linear"


@dataclass(frozen=True, slots=True)
class MicroKernel:
    """One function of the kernel headers.

    Attributes:
        name: unique, for reports.
        operation: what it computes.
        instruction_set: the least instruction set it compiles for.
        activation: element type of the row-major operand.
        weight: element type of the packed operand; of quantised weights that of their format
            (`ir.quantized.STORED`), with activations in int8 where rows are quantised.
        header: file to include, relative to `KERNEL_DIRECTORY`.
        function: the C++ name to call, template arguments included.
        row_block: rows computed at once in registers.
        column_block: columns computed at once in registers.
        meaning: (row-major operand, other operand unpacked) -> float32 result.
    """

    name: str
    operation: Operation
    instruction_set: str
    activation: DType
    weight: DType
    header: str
    function: str
    row_block: int
    column_block: int
    meaning: Callable[[Array, Array], Array]


def linear_meaning(activations: Array, weight: Array) -> Array:
    """Compute [rows, k] x [n, k]^T in float32, the meaning of every linear kernel."""
    product: Array = activations.astype(np.float32) @ weight.astype(np.float32).T
    return product


def dot_meaning(left: Array, right: Array) -> Array:
    """Compute [rows, k] x [k, n] in float32, the meaning of every tile dot."""
    product: Array = left.astype(np.float32) @ right.astype(np.float32)
    return product


def quantized_rows_meaning(activations: Array, weight: Array) -> Array:
    """Whole numbers in [-127, 127] times the step of each row; takes no weight."""
    whole, step = quantize_rows(activations.astype(np.float32))
    product: Array = whole * step
    return product


def _linear(level: str, types: tuple[DType, DType], block: tuple[int, int]) -> MicroKernel:
    activation, weight = types
    if level in {"amx_bf16", "avx512_bf16"}:
        header, function = f"linear_{level}.h", f"linear_tile_{level}"
    else:
        header = "linear_fma.h"
        function = f"linear_tile_fma<{_CPP_NAMES[activation]}, {_CPP_NAMES[weight]}>"
    return MicroKernel(
        name=f"linear.{level}.{activation.value}.{weight.value}",
        operation=Operation.LINEAR,
        instruction_set=level,
        activation=activation,
        weight=weight,
        header=header,
        function=f"banyan::{function}",
        row_block=block[0],
        column_block=block[1],
        meaning=linear_meaning,
    )


def _tile_dot(level: str, dtype: DType, block: tuple[int, int]) -> MicroKernel:
    return MicroKernel(
        name=f"tile_dot.{level}.{dtype.value}",
        operation=Operation.TILE_DOT,
        instruction_set=level,
        activation=dtype,
        weight=dtype,
        header="tile_dot.h",
        function=f"banyan::tile_dot<{_CPP_NAMES[dtype]}>",
        row_block=block[0],
        column_block=block[1],
        meaning=dot_meaning,
    )


def _quantize_rows(activation: DType) -> MicroKernel:
    return MicroKernel(
        name=f"quantize_rows.{activation.value}",
        operation=Operation.QUANTIZE_ROWS,
        instruction_set="portable",
        activation=activation,
        weight=DType.INT8,
        header="quantize_rows.h",
        function=f"banyan::quantize_row<{_CPP_NAMES[activation]}>",
        row_block=1,
        column_block=1,
        meaning=quantized_rows_meaning,
    )


def _linear_int8(level: str, weight: DType, block: tuple[int, int]) -> MicroKernel:
    kind = "linear_amx_int8" if level == "amx_bf16" else "linear_int8"
    return MicroKernel(
        name=f"quantized_linear.{level}.i8.{weight.value}",
        operation=Operation.QUANTIZED_LINEAR,
        instruction_set=level,
        activation=DType.INT8,
        weight=weight,
        header=f"{kind}.h",
        function=f"banyan::{kind}<{_BITS[weight]}>",
        row_block=block[0],
        column_block=block[1],
        meaning=linear_meaning,
    )


def _linear_dequantized(level: str, types: tuple[DType, DType]) -> MicroKernel:
    activation, weight = types
    stored = f"banyan::Stored::{_STORED_NAMES[weight]}"
    return MicroKernel(
        name=f"quantized_linear.{level}.{activation.value}.{weight.value}",
        operation=Operation.QUANTIZED_LINEAR,
        instruction_set=level,
        activation=activation,
        weight=weight,
        header="linear_dequantized.h",
        function=f"banyan::linear_dequantized<{stored}, {_CPP_NAMES[activation]}>",
        row_block=6,
        column_block=64,
        meaning=linear_meaning,
    )


_CPP_NAMES = {DType.FLOAT32: "float", DType.BFLOAT16: "banyan::bfloat16"}
_F32 = (DType.FLOAT32, DType.FLOAT32)
_BF16 = (DType.BFLOAT16, DType.BFLOAT16)
_MIXED = (DType.FLOAT32, DType.BFLOAT16)
_STORED_NAMES = {
    DType.INT8: "kBytes",
    DType.UINT8: "kNibbles",
    DType.FLOAT8_E4M3: "kFloats",
}
_BITS = {DType.INT8: 8, DType.UINT8: 4}
_INT8_BLOCKS = {
    "amx_bf16": (32, 32),
    "avx512_bf16": (6, 64),
    "avx512": (6, 32),
    "avx2": (4, 16),
    "neon": (4, 16),
    "portable": (2, 16),
}
_FMA_BLOCKS = {"avx512": (6, 64), "avx2": (6, 16), "neon": (6, 16), "portable": (2, 16)}

KERNELS: tuple[MicroKernel, ...] = (
    _linear("amx_bf16", _BF16, (32, 32)),
    _linear("avx512_bf16", _BF16, (12, 32)),
    *(
        _linear(level, types, block)
        for level, block in _FMA_BLOCKS.items()
        for types in (_F32, _BF16, _MIXED)
    ),
    _tile_dot("amx_bf16", DType.BFLOAT16, (64, 16)),
    _tile_dot("avx512_bf16", DType.BFLOAT16, (12, 32)),
    *(
        _tile_dot(level, dtype, block)
        for level, block in _FMA_BLOCKS.items()
        for dtype in (DType.FLOAT32, DType.BFLOAT16)
    ),
    *(_quantize_rows(dtype) for dtype in (DType.FLOAT32, DType.BFLOAT16)),
    *(
        _linear_int8(level, weight, block)
        for level, block in _INT8_BLOCKS.items()
        for weight in _BITS
    ),
    *(_linear_dequantized("avx512_bf16", (DType.BFLOAT16, weight)) for weight in _STORED_NAMES),
    *(
        _linear_dequantized("portable", (activation, weight))
        for activation in (DType.FLOAT32, DType.BFLOAT16)
        for weight in _STORED_NAMES
    ),
)


def choose(
    operation: Operation, instruction_set: str, activation: DType, weight: DType
) -> MicroKernel:
    """Pick the best kernel for a program that is compiled for `instruction_set`.

    Raises:
        GraphError: no kernel takes these element types.
    """
    wanted = next(level for level in INSTRUCTION_SETS if level.name == instruction_set)
    rest = INSTRUCTION_SETS[INSTRUCTION_SETS.index(wanted) :]
    usable = [level.name for level in rest if level.architecture in {wanted.architecture, ""}]
    for level in usable:
        for kernel in KERNELS:
            if (kernel.operation, kernel.instruction_set) == (operation, level) and (
                kernel.activation,
                kernel.weight,
            ) == (activation, weight):
                return kernel
    raise GraphError(
        f"no {operation.value} micro-kernel multiplies {activation.value} by {weight.value}; "
        "cast one of them to the type of the other"
    )


def rows_per_item(instruction_set: str) -> int:
    """Rows that one task item of a packed linear should take.

    AMX reuses a chunk of two panels from the first-level cache for all rows of an item, so it wants
    many. The others are as fast with 64, which leaves more items to share among threads.
    """
    return 256 if instruction_set == "amx_bf16" else 64
