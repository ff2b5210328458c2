"""Weights in the order the micro-kernels read them.

The layout is told in `micro_kernels/README.md`: panels of sixteen output columns, k ascending,
pairs of k side by side in bfloat16, padded with zeros. `pack_linear` does it in NumPy; the program
that `build_packer` builds does the same at the speed of memory.
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from banyan.compiler.ir.operations import pack_width
from banyan.compiler.ir.packing import DEPTH_MULTIPLE
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY
from banyan.compiler.targets.interpreter.arithmetic import pack_panels
from banyan.devices.instruction_sets import InstructionSet
from banyan.devices.native import OPTIMISED_FLAGS, Compiler, SharedObject, build_shared_object
from banyan.devices.thread_pool import NATIVE_DIRECTORY
from banyan.foundation.errors import InputError

Array = NDArray[Any]


def pack_linear(weight: Array, dtype: DType) -> Array:
    """Pack W[n, k] to `dtype` in NumPy.

    Raises:
        InputError: another element type than float32, bfloat16 or float16.
    """
    if dtype not in DEPTH_MULTIPLE:
        raise InputError(f"weights cannot be packed as {dtype.value}; use f32, bf16 or f16")
    return pack_panels(weight.astype(dtype.numpy), pack_width(dtype), DEPTH_MULTIPLE[dtype])


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
