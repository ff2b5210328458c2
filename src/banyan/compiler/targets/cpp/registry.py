"""The micro-kernels that generated C++ may call.

Each record names a function of `micro_kernels/*.h` and what it needs from the CPU. Everything here
is pure; the machine is an argument.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from banyan.compiler.ir.types import DType
from banyan.devices.instruction_sets import INSTRUCTION_SETS
from banyan.foundation.errors import GraphError

KERNEL_DIRECTORY = Path(__file__).parent / "micro_kernels"
"""What generated programs pass to the compiler as `-I`."""


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
        operation: what it computes.
        instruction_set: the least instruction set it compiles for.
        activation: element type of the row-major operand.
        weight: element type of the packed operand; of quantised weights that of their format
            (`ir.quantized.STORED`), with activations in int8 where rows are quantised.
        header: file to include, relative to `KERNEL_DIRECTORY`.
        function: the C++ name to call, template arguments included.
    """

    operation: Operation
    instruction_set: str
    activation: DType
    weight: DType
    header: str
    function: str

    @property
    def name(self) -> str:
        """Unique, for reports."""
        types = f"{self.activation.value}.{self.weight.value}"
        return f"{self.operation.value}.{self.instruction_set}.{types}"


_F32, _BF16, _F16 = DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16
_TYPES = ((_F32, _F32), (_BF16, _BF16), (_F16, _F16), (_F32, _BF16))
_MATRIX_SETS = ("amx_bf16", "avx512_bf16")
_VECTOR_SETS = ("avx512", "avx2", "neon", "portable")
_CPP_NAMES = {_F32: "float", _BF16: "banyan::bfloat16", _F16: "banyan::float16"}
_STORED_NAMES = {
    DType.INT8: "kBytes",
    DType.UINT8: "kNibbles",
    DType.FLOAT8_E4M3: "kFloats",
}
_BITS = {DType.INT8: 8, DType.UINT8: 4}


def _linear(level: str, activation: DType, weight: DType) -> MicroKernel:
    header, function = f"linear_{level}.h", f"banyan::linear_tile_{level}"
    if level in _VECTOR_SETS:
        types = f"{_CPP_NAMES[activation]}, {_CPP_NAMES[weight]}"
        header, function = "linear_fma.h", f"banyan::linear_tile_fma<{types}>"
    return MicroKernel(Operation.LINEAR, level, activation, weight, header, function)


def _tile_dot(level: str, dtype: DType) -> MicroKernel:
    function = f"banyan::tile_dot<{_CPP_NAMES[dtype]}>"
    return MicroKernel(Operation.TILE_DOT, level, dtype, dtype, "tile_dot.h", function)


def _quantize_rows(dtype: DType) -> MicroKernel:
    function, header = f"banyan::quantize_row<{_CPP_NAMES[dtype]}>", "quantize_rows.h"
    return MicroKernel(Operation.QUANTIZE_ROWS, "portable", dtype, DType.INT8, header, function)


def _linear_int8(level: str, weight: DType) -> MicroKernel:
    kind = "linear_amx_int8" if level == "amx_bf16" else "linear_int8"
    function, rows = f"banyan::{kind}<{_BITS[weight]}>", DType.INT8
    return MicroKernel(Operation.QUANTIZED_LINEAR, level, rows, weight, f"{kind}.h", function)


def _linear_dequantized(level: str, activation: DType, weight: DType) -> MicroKernel:
    types = f"banyan::Stored::{_STORED_NAMES[weight]}, {_CPP_NAMES[activation]}"
    header, function = "linear_dequantized.h", f"banyan::linear_dequantized<{types}>"
    return MicroKernel(Operation.QUANTIZED_LINEAR, level, activation, weight, header, function)


KERNELS: tuple[MicroKernel, ...] = (
    *(_linear(level, _BF16, _BF16) for level in _MATRIX_SETS),
    *(_linear(level, *types) for level in _VECTOR_SETS for types in _TYPES),
    *(_tile_dot(level, _BF16) for level in _MATRIX_SETS),
    *(_tile_dot(level, dtype) for level in _VECTOR_SETS for dtype in _CPP_NAMES),
    *(_quantize_rows(dtype) for dtype in (_F32, _BF16)),
    *(_linear_int8(level, weight) for level in (*_MATRIX_SETS, *_VECTOR_SETS) for weight in _BITS),
    *(_linear_dequantized("avx512_bf16", _BF16, weight) for weight in _STORED_NAMES),
    *(_linear_dequantized("portable", _F32, weight) for weight in _STORED_NAMES),
    *(_linear_dequantized("portable", _BF16, weight) for weight in _STORED_NAMES),
)


def choose(
    operation: Operation, instruction_set: str, activation: DType, weight: DType
) -> MicroKernel:
    """Pick the best kernel for a program that is compiled for `instruction_set`.

    Raises:
        GraphError: no kernel takes these element types.
    """
    best = next(level for level in INSTRUCTION_SETS if level.name == instruction_set)
    rest = INSTRUCTION_SETS[INSTRUCTION_SETS.index(best) :]
    usable = [level.name for level in rest if level.architecture in {best.architecture, ""}]
    types = activation, weight
    fitting = {
        kernel.instruction_set: kernel
        for kernel in KERNELS
        if kernel.operation is operation and (kernel.activation, kernel.weight) == types
    }
    for level in usable:
        if level in fitting:
            return fitting[level]
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
