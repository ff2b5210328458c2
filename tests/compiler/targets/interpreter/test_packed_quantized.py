"""The layout of packed quantised weights and rows, as NumPy writes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.compiler.ir.packing import QUANTIZED_BYTES, QUANTIZED_NIBBLES, columns_packing
from banyan.compiler.targets.interpreter.packed_quantized import (
    pack_quantized,
    quantize_rows,
    unpack_quantized,
)
from banyan.compiler.targets.interpreter.quantized import unpack


def test_a_line_of_bytes_holds_four_k_of_64_columns_in_the_order_0_2_1_3() -> None:
    weight = np.arange(8, dtype=np.int8).reshape(2, 4)
    packed = pack_quantized(weight, QUANTIZED_BYTES, 1)
    assert packed.shape == (1, 16, 256)
    assert packed[0, 0, :8].tolist() == [128, 130, 129, 131, 132, 134, 133, 135]
    assert not packed[0, 1:].any()


def test_a_line_of_nibbles_holds_eight_k_the_first_four_in_the_low_halves() -> None:
    weight = np.array([[0x10, 0x32, 0x54, 0x76]], dtype=np.uint8)
    packed = pack_quantized(weight, QUANTIZED_NIBBLES, 1)
    assert packed.shape == (1, 8, 256)
    assert packed[0, 0, :4].tolist() == [0x40, 0x62, 0x51, 0x73]


def test_scales_of_several_columns_are_repeated_for_each() -> None:
    scales = np.array([[1, 2], [3, 4]], dtype=np.float32)
    packed = pack_quantized(scales, columns_packing(48), 2)
    assert packed.shape == (2, 2, 64)
    assert packed[0, 0].tolist() == [1] * 48 + [3] * 16
    assert packed[1, 1].tolist() == [4] * 32 + [0] * 32


@pytest.mark.parametrize("layout", ["int8", "int4", "fp8"])
@given(n=st.integers(1, 100), half=st.integers(1, 80))
def test_unpacking_undoes_packing(layout: str, n: int, half: int) -> None:
    bits = np.random.default_rng(n * 81 + half).integers(0, 256, (n, half)).astype(np.uint8)
    if layout == "int4":
        packed = pack_quantized(bits, QUANTIZED_NIBBLES, -(-n // 64))
        np.testing.assert_array_equal(
            unpack_quantized(packed, layout, 2 * half)[:n], unpack((bits,), {})
        )
        return
    weight = bits.view(np.int8) if layout == "int8" else bits
    packed = pack_quantized(weight, QUANTIZED_BYTES, -(-n // 64))
    found = unpack_quantized(packed, layout, half)[:n]
    np.testing.assert_array_equal(found.view(np.uint8), bits)


def test_a_row_is_its_bytes_its_step_and_the_sums_of_its_groups() -> None:
    x = np.array([[127, -2, 3.5, 4.5, 0, 1]], dtype=np.float32)
    (row,) = quantize_rows((x,), {"group": 4})
    assert row.shape == (128,)
    assert row[:6].tolist() == [127, 4, -2, 4, 0, 0]
    assert row[6] == 1
    assert row[64:68].view(np.float32) == [1]
    assert row[68:76].view(np.int32).tolist() == [133, 1]
    assert not row[76:].any()
