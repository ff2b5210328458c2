"""Weights in the order the micro-kernels read them.

The layout is told in `micro_kernels/README.md`: panels of sixteen output columns, k ascending,
pairs of k side by side in bfloat16, padded with zeros. `pack_linear` does it in NumPy; the program
that `build_packer` builds does the same at the speed of memory.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY, PANEL_COLUMNS
from banyan.devices.instruction_sets import InstructionSet
from banyan.devices.native import OPTIMISED_FLAGS, Compiler, SharedObject, build_shared_object
from banyan.devices.thread_pool import NATIVE_DIRECTORY
from banyan.foundation.errors import InputError

Array = NDArray[Any]

_BFLOAT16_PADDING = 32


def packed_shape(n: int, k: int, dtype: DType) -> tuple[int, ...]:
    """Shape of W[n, k] after packing to `dtype` (float32 or bfloat16).

    Raises:
        InputError: another element type.
    """
    panels = -(-n // PANEL_COLUMNS)
    if dtype is DType.FLOAT32:
        return (panels, k, PANEL_COLUMNS)
    if dtype is DType.BFLOAT16:
        padded = -(-k // _BFLOAT16_PADDING) * _BFLOAT16_PADDING
        return (panels, padded // 2, PANEL_COLUMNS, 2)
    raise InputError(f"weights cannot be packed as {dtype.value}; use f32 or bf16")


def packed_bytes(n: int, k: int, dtype: DType) -> int:
    """Bytes of W[n, k] after packing to `dtype`."""
    elements = 1
    for size in packed_shape(n, k, dtype):
        elements *= size
    return elements * dtype.num_bytes


def pack_linear(weight: Array, dtype: DType) -> Array:
    """Pack W[n, k] in NumPy."""
    n, k = weight.shape
    shape = packed_shape(n, k, dtype)
    panels = shape[0]
    depth = packed_depth(k, dtype)
    padded = np.zeros((panels * PANEL_COLUMNS, depth), dtype.numpy)
    padded[:n, :k] = weight.astype(dtype.numpy)
    group = 2 if dtype is DType.BFLOAT16 else 1
    lines = padded.reshape(panels, PANEL_COLUMNS, depth // group, group).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(lines).reshape(shape)


def unpack_linear(packed: Array, n: int, k: int) -> Array:
    """Undo `pack_linear`."""
    panels, lines = packed.shape[:2]
    group = packed.shape[3] if packed.ndim == 4 else 1
    columns = packed.reshape(panels, lines, PANEL_COLUMNS, group).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(columns.reshape(panels * PANEL_COLUMNS, lines * group)[:n, :k])


def packed_depth(k: int, dtype: DType) -> int:
    """K as stored: padded to a multiple of 32 in bfloat16."""
    return -(-k // _BFLOAT16_PADDING) * _BFLOAT16_PADDING if dtype is DType.BFLOAT16 else k


def build_packer(
    instruction_set: InstructionSet, cache_directory: Path, compiler: Compiler | None = None
) -> SharedObject:
    """Build the packing program, or find the one built before.

    Raises:
        CompilerMissing: no C++ compiler on this machine; use `pack_linear`.
    """
    return build_shared_object(
        (KERNEL_DIRECTORY / "packing.cpp").read_text(encoding="utf-8"),
        flags=(*OPTIMISED_FLAGS, *instruction_set.compiler_flags),
        cache_directory=cache_directory,
        name="packing",
        include_directories=(KERNEL_DIRECTORY, NATIVE_DIRECTORY),
        compiler=compiler,
    )
