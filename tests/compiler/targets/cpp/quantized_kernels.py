"""Builds the kernels for quantised weights of one instruction set, callable with NumPy arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banyan.compiler.ir.packing import QUANTIZED_BYTES, QUANTIZED_NIBBLES, columns_packing
from banyan.compiler.ir.quantized import STORED, row_bytes
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.registry import Operation, choose
from banyan.compiler.targets.interpreter.packed_quantized import pack_quantized
from tests.compiler.targets.cpp.kernel_libraries import NativeLibrary
from tests.compiler.targets.cpp.kernels_under_test import (
    BF16,
    CPP_NAMES,
    EMULATION_LINE,
    F32,
    aligned,
    aligned_copy,
    open_library,
    row_stride,
)

Array = NDArray[Any]
POINTERS = {**CPP_NAMES, DType.INT8: "int8_t"}
INTEGER, PLAIN = DType.INT8, (BF16, F32)
COMBINATIONS = [
    *((INTEGER, layout) for layout in ("int8", "int4")),
    *((activation, layout) for activation in PLAIN for layout in STORED),
]


def _entry(level: str, activation: DType, layout: str) -> str:
    kernel = choose(Operation.QUANTIZED_LINEAR, level, activation, STORED[layout])
    return f"""
extern "C" void linear_{activation.value}_{layout}(
    const void* a, int64_t lda, const void* lines, const void* scales, const void* zeros,
    int64_t k, int64_t group, int64_t rows, int64_t blocks, float* c, int64_t ldc) {{
  const banyan::quantized::Weight w{{static_cast<const uint8_t*>(lines),
      static_cast<const float*>(scales), static_cast<const uint8_t*>(zeros), k, group}};
  {kernel.function}(static_cast<const {POINTERS[activation]}*>(a), lda, w, rows, blocks, c, ldc);
}}
"""


def _rows_entry(dtype: DType) -> str:
    kernel = choose(Operation.QUANTIZE_ROWS, "portable", dtype, INTEGER)
    return f"""
extern "C" void rows_{dtype.value}(const void* x, int64_t k, int64_t group, int8_t* out) {{
  {kernel.function}(static_cast<const {CPP_NAMES[dtype]}*>(x), k, group, out);
}}
"""


def source(level: str, *, emulated: bool) -> str:
    """The text of a shared object with every kernel for quantised weights."""
    chosen = [
        choose(Operation.QUANTIZED_LINEAR, level, activation, STORED[layout])
        for activation, layout in COMBINATIONS
    ]
    lines = [EMULATION_LINE] if emulated else []
    lines += [f'#include "{header}"' for header in sorted({kernel.header for kernel in chosen})]
    lines += [_entry(level, activation, layout) for activation, layout in COMBINATIONS]
    lines += [_rows_entry(dtype) for dtype in PLAIN]
    if emulated:
        lines.append(
            'extern "C" int64_t tile_products() { return amx_emulation::state().products; }'
        )
    return "\n".join(lines)


class QuantizedKernels:
    """The kernels of one instruction set."""

    def __init__(self, name: str, cache_directory: Path) -> None:
        self.name = name
        self.library = open_library(name, source, "quantized_kernels", cache_directory)

    def rows(self, x: Array, group: int) -> Array:
        """Each row quantised, with junk in what was there before."""
        dtype = F32 if x.dtype == np.float32 else BF16
        depth = x.shape[1]
        out = np.full((len(x), row_bytes(depth, group)), 85, np.int8)
        for row, target in zip(x, out, strict=True):
            self.library.call(f"rows_{dtype.value}", row, depth, group, target)
        return out

    def linear(
        self,
        rows: Array,
        weights: tuple[Array, ...],
        layout: str,
        sizes: tuple[int, int],
        blocking: tuple[int, int],
    ) -> Array:
        """Rows, quantised or plain, times (weight, scales, zeros?) as `quantized_linear` has them.

        Args:
            rows: [M, ...].
            weights: as they are in a graph.
            layout: the format.
            sizes: N and K.
            blocking: group, and columns that share a scale.
        """
        (columns, depth), (group, shared) = sizes, blocking
        blocks = -(-columns // 64)
        packing = QUANTIZED_NIBBLES if layout == "int4" else QUANTIZED_BYTES
        names = (packing, columns_packing(shared), columns_packing(1))
        packed = [
            _aligned_bytes(pack_quantized(part, name, blocks))
            for part, name in zip(weights, names, strict=False)
        ]
        zeros = packed[2] if len(packed) > 2 else None
        held = next(d for d in (INTEGER, *PLAIN) if d.numpy == rows.dtype)
        ldc = blocks * 64 + 16
        c = aligned((len(rows), ldc), F32)
        self.library.call(
            f"linear_{held.value}_{layout}", rows, row_stride(rows), packed[0], packed[1], zeros,
            depth, group, len(rows), blocks, c, ldc,
        )  # fmt: skip
        assert np.isnan(c[:, blocks * 64 :]).all(), "wrote beyond the last block"
        return c[:, :columns]

    def tile_products(self) -> int:
        """How many tile products the emulation has done on this thread."""
        assert isinstance(self.library, NativeLibrary)
        return self.library.number("tile_products")


def _aligned_bytes(array: Array) -> Array:
    if array.dtype == np.float32:
        return aligned_copy(array, F32)
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].reshape(array.shape)
    copy[...] = array
    return copy
