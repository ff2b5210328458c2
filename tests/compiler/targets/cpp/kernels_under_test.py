"""Builds the micro-kernels of one instruction set as a shared object that tests can call."""

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.packing import pack_linear
from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY, Operation, choose
from banyan.devices.instruction_sets import (
    INSTRUCTION_SETS,
    InstructionSet,
    detect_instruction_sets,
)
from banyan.devices.native import OPTIMISED_FLAGS, build_shared_object
from tests.compiler.targets.cpp.kernel_libraries import (
    EmulatedLibrary,
    Library,
    NativeLibrary,
    require_arm_emulation,
)

Array = NDArray[Any]
BF16, F16, F32 = DType.BFLOAT16, DType.FLOAT16, DType.FLOAT32
CPP_NAMES = {F32: "float", BF16: "banyan::bfloat16", F16: "banyan::float16"}
EMULATION = Path(__file__).parent / "amx_emulation.h"
# Objects are kept by the text that is compiled, which does not hold what it includes from here.
EMULATION_DIGEST = hashlib.sha256(EMULATION.read_bytes()).hexdigest()[:16]
EMULATION_LINE = f'#include "{EMULATION}"  // {EMULATION_DIGEST}'
EMULATED_AMX = "emulated amx_bf16"
EMULATED_NEON = "emulated neon"


def kernel_names() -> list[str]:
    """Instruction sets that can run here, AMX emulated where its other half can, and NEON."""
    names = [level.name for level in detect_instruction_sets()]
    amx = [EMULATED_AMX] if "avx512_bf16" in names else []
    return [*names, *amx, EMULATED_NEON]


def program_levels() -> list[InstructionSet]:
    """Instruction sets that whole programs can be run with here, emulated AMX among them."""
    levels = list(detect_instruction_sets())
    if EMULATED_AMX in kernel_names():
        emulated = ("-include", str(EMULATION), f"-DAMX_EMULATION_DIGEST={EMULATION_DIGEST}")
        flags = (*find_level("avx512_bf16").compiler_flags, *emulated)
        levels.append(InstructionSet("amx_bf16", frozenset(), flags))
    return levels


def aligned(shape: tuple[int, ...], dtype: DType) -> Array:
    """An array on a cache line, filled with NaN so that nothing unwritten passes unseen."""
    count = int(np.prod(shape))
    raw = np.empty(count * dtype.num_bytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + count * dtype.num_bytes].view(dtype.numpy).reshape(shape)
    array[...] = np.nan
    return array


def aligned_copy(source: Array, dtype: DType) -> Array:
    copy = aligned(source.shape, dtype)
    copy[...] = source
    return copy


def dtype_of(values: Array) -> DType:
    return next(dtype for dtype in CPP_NAMES if dtype.numpy == values.dtype)


def guarded_rows(values: Array, dtype: DType, padding: int) -> Array:
    """Rows with NaN behind each of them, so that reading too far shows."""
    rows, width = values.shape
    padded = aligned((rows, width + padding), dtype)
    padded[:, :width] = values
    return padded[:, :width]


def _linear_entry(level: str, activation: DType, weight: DType) -> str:
    kernel = choose(Operation.LINEAR, level, activation, weight)
    a, w = CPP_NAMES[activation], CPP_NAMES[weight]
    return f"""
extern "C" void linear_{activation.value}_{weight.value}(
    const void* a, int64_t lda, const void* w, int64_t k, int64_t rows, int64_t panels, float* c,
    int64_t ldc) {{
  {kernel.function}(static_cast<const {a}*>(a), lda, static_cast<const {w}*>(w), k, rows, panels,
                    c, ldc);
}}
"""


def _dot_entry(level: str, dtype: DType) -> str:
    kernel = choose(Operation.TILE_DOT, level, dtype, dtype)
    name = CPP_NAMES[dtype]
    return f"""
extern "C" void dot_{dtype.value}(
    const void* a, int64_t lda, const void* b, int64_t line_stride, int64_t k, int64_t rows,
    int64_t n, float* c, int64_t ldc, int32_t accumulate, const void* ahead) {{
  banyan::DotSession session;
  {kernel.function}(session, static_cast<const {name}*>(a), lda, static_cast<const {name}*>(b),
                    line_stride, k, rows, n, c, ldc, accumulate != 0,
                    static_cast<const {name}*>(ahead));
}}
"""


def _block_entry(dtype: DType) -> str:
    name = CPP_NAMES[dtype]
    return f"""
extern "C" void block_columns_{dtype.value}(
    const {name}* a, int64_t lda, const {name}* const* blocks, int64_t count, int64_t k,
    int64_t rows, float* c, int64_t ldc, const {name}* const* ahead) {{
  banyan::DotSession session;
  banyan::block_columns(session, a, lda, blocks, count, k, rows, c, ldc, ahead);
}}
extern "C" void block_rows_{dtype.value}(
    const {name}* a, int64_t lda, const {name}* const* blocks, int64_t count, int64_t k,
    int64_t rows, int64_t n, float* c, int64_t ldc, int32_t accumulate,
    const {name}* const* ahead) {{
  banyan::DotSession session;
  banyan::block_rows(session, a, lda, blocks, count, k, rows, n, c, ldc, accumulate != 0, ahead);
}}
"""


BYTE_BLOCKS = """
extern "C" void block_columns_int8(
    const banyan::bfloat16* a, int64_t lda, const int8_t* const* blocks, int64_t count, int64_t k,
    int64_t rows, float* c, int64_t ldc, const int8_t* const* ahead, banyan::bfloat16* wide) {
  banyan::DotSession session;
  banyan::block_columns(session, a, lda, blocks, count, k, rows, c, ldc, ahead, wide);
}
extern "C" void block_rows_int8(
    const banyan::bfloat16* a, int64_t lda, const int8_t* const* blocks, int64_t count, int64_t k,
    int64_t rows, int64_t n, float* c, int64_t ldc, int32_t accumulate,
    const int8_t* const* ahead, banyan::bfloat16* wide) {
  banyan::DotSession session;
  banyan::block_rows(session, a, lda, blocks, count, k, rows, n, c, ldc, accumulate != 0, ahead,
                     wide);
}
"""


def kernel_source(level: str, *, emulated: bool) -> str:
    """The text of a shared object with every kernel a program of that level would use."""
    types = (*((dtype, dtype) for dtype in CPP_NAMES), (F32, BF16))
    headers = {choose(Operation.LINEAR, level, a, w).header for a, w in types}
    lines = [EMULATION_LINE] if emulated else []
    lines += [f'#include "{header}"' for header in (*sorted(headers), "block_dot.h")]
    lines += [_linear_entry(level, a, w) for a, w in types]
    lines += [_dot_entry(level, dtype) for dtype in CPP_NAMES]
    lines += [*map(_block_entry, CPP_NAMES), BYTE_BLOCKS]
    if emulated:
        lines.append(
            'extern "C" int64_t tile_products() { return amx_emulation::state().products; }'
        )
    return "\n".join(lines)


def find_level(name: str) -> InstructionSet:
    return next(level for level in INSTRUCTION_SETS if level.name == name)


def open_library(
    name: str, source: Callable[..., str], kind: str, cache_directory: Path
) -> Library:
    """Build what `source(level, emulated=)` gives for one of `kernel_names()`."""
    amx = name == EMULATED_AMX
    level = name.removeprefix("emulated ")
    text = source(level, emulated=amx)
    if name == EMULATED_NEON:
        require_arm_emulation()
        names = re.findall(r'extern "C" void (\w+)\(', text)
        return EmulatedLibrary(text, names, find_level("neon").compiler_flags, cache_directory)
    compiled_for = find_level("avx512_bf16" if amx else name)
    built = build_shared_object(
        text,
        flags=(*OPTIMISED_FLAGS, "-Wall", "-Wextra", "-Werror", *compiled_for.compiler_flags),
        cache_directory=cache_directory,
        name=f"{kind}_{level}",
        include_directories=(KERNEL_DIRECTORY,),
    )
    return NativeLibrary(built.path)


class Kernels:
    """The kernels of one instruction set, callable with NumPy arrays."""

    def __init__(self, name: str, cache_directory: Path) -> None:
        self.name = name
        self.calls = 0
        self.library = open_library(name, kernel_source, "kernels", cache_directory)

    def linear(self, a: Array, w: Array, activation: DType, weight: DType) -> Array:
        """a[rows, k] x w[n, k]^T, all panels in one call."""
        n, k = w.shape
        packed = aligned_copy(pack_linear(w, weight), weight)
        panels = packed.shape[0]
        ldc = panels * 16 + 16
        c = aligned((a.shape[0], ldc), F32)
        self.library.call(
            f"linear_{activation.value}_{weight.value}",
            a, row_stride(a), packed, k, a.shape[0], panels, c, ldc,
        )  # fmt: skip
        assert np.isnan(c[:, panels * 16 :]).all(), "wrote beyond the last panel"
        assert (c[:, n : panels * 16] == 0).all(), "columns past N must be zero"
        return c[:, :n]

    def dot(self, a: Array, b: Array, c: Array, *, accumulate: bool) -> None:
        """c (+)= a[rows, k] x b, b packed [k/p][n][p] with any stride between lines.

        Every second call names a block to fetch, which must change nothing.
        """
        self.calls += 1
        k, n = a.shape[1], c.shape[1]
        dtype = dtype_of(a)
        self.library.call(
            f"dot_{dtype.value}",
            a, row_stride(a), b, row_stride(b), k, a.shape[0], n, c, row_stride(c),
            int(accumulate), b if self.calls % 2 else None,
        )  # fmt: skip

    def block_columns(self, a: Array, blocks: Sequence[Array | None], c: Array) -> None:
        """c = a[rows, k] x blocks of sixteen columns side by side; every second call fetches."""
        self.calls += 1
        kind, room = _kind_of(blocks)
        self.library.call(
            f"block_columns_{kind}",
            a, row_stride(a), blocks, len(blocks), a.shape[1], a.shape[0], c, row_stride(c),
            blocks if self.calls % 2 else None, *room,
        )  # fmt: skip

    def block_rows(
        self, a: Array, blocks: Sequence[Array | None], c: Array, *, accumulate: bool
    ) -> None:
        """c (+)= a[rows, blocks * k] x blocks one after the other; every second call fetches."""
        self.calls += 1
        kind, room = _kind_of(blocks)
        self.library.call(
            f"block_rows_{kind}",
            a, row_stride(a), blocks, len(blocks), a.shape[1] // len(blocks), a.shape[0],
            c.shape[1], c, row_stride(c), int(accumulate), blocks if self.calls % 2 else None,
            *room,
        )  # fmt: skip

    def tile_products(self) -> int:
        """How many tile products the emulation has done on this thread."""
        assert isinstance(self.library, NativeLibrary)
        return self.library.number("tile_products")


def _kind_of(blocks: Sequence[Array | None]) -> tuple[str, list[Array]]:
    """The name of the type of blocks, and room to widen them, if they are bytes."""
    some = next(block for block in blocks if block is not None)
    if some.dtype != np.int8:
        return dtype_of(some).value, []
    return "int8", [aligned((len(blocks) * some.size,), BF16)]


def row_stride(array: Array) -> int:
    return int(array.strides[0] // array.itemsize)
