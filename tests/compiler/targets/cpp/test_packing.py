"""Packed weights: NumPy is the meaning, C++ does the same bytes."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from banyan.compiler.ir.packing import QUANTIZED_BYTES, QUANTIZED_NIBBLES, panel_shape
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.packing import build_packer, pack_linear
from banyan.compiler.targets.interpreter.arithmetic import unpack_panels
from banyan.compiler.targets.interpreter.packed_quantized import pack_quantized
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.devices.thread_pool import open_thread_pool
from banyan.foundation.errors import InputError

BF16, F16, F32 = DType.BFLOAT16, DType.FLOAT16, DType.FLOAT32
CODES = {F32: 0, BF16: 1, F16: 2}
Array: TypeAlias = NDArray[Any]
Pack: TypeAlias = Callable[[Array, Array, tuple[int, int]], int]


@pytest.fixture(scope="module")
def pack(object_cache: Path) -> Iterator[Pack]:
    """The native program, called as a device calls programs."""
    library = build_packer(detect_instruction_sets()[0], object_cache).path
    run = ctypes.CDLL(str(library)).banyan_run
    run.argtypes = [ctypes.c_void_p] * 3
    with open_thread_pool(2, cache_directory=object_cache) as pool:

        def call(weight: Array, target: Array, codes: tuple[int, int]) -> int:
            rows, columns = weight.shape
            stride = weight.strides[0] // weight.itemsize
            buffers = (ctypes.c_void_p * 2)(weight.ctypes.data, target.ctypes.data)
            symbols = (ctypes.c_int64 * 5)(rows, columns, stride, *codes)
            answer: int = run(pool.runtime(), buffers, symbols)
            return answer

        yield call


def test_a_bfloat16_panel_holds_pairs_of_k_of_sixteen_columns() -> None:
    weight = np.arange(2 * 4, dtype=np.float32).reshape(2, 4)
    packed = pack_linear(weight, BF16)
    assert packed.shape == (1, 16, 16, 2)
    assert packed[0, 0, 0].tolist() == [0, 1]
    assert packed[0, 1, 0].tolist() == [2, 3]
    assert packed[0, 0, 1].tolist() == [4, 5]
    assert packed[0, 2:].astype(np.float32).sum() == 0


def test_a_float32_panel_holds_sixteen_columns_of_each_k() -> None:
    weight = np.arange(2 * 3, dtype=np.float32).reshape(2, 3)
    packed = pack_linear(weight, F32)
    assert packed.shape == (1, 3, 16, 1)
    assert packed[0, :, 0, 0].tolist() == [0, 1, 2]
    assert packed[0, :, 1, 0].tolist() == [3, 4, 5]


def test_sizes_count_the_padding() -> None:
    for dtype, shape in ((BF16, (2, 32, 16, 2)), (F32, (2, 33, 16, 1)), (F16, (2, 33, 16, 1))):
        assert panel_shape(17, 33, dtype) == shape
        assert pack_linear(np.zeros((17, 33), np.float32), dtype).shape == shape


@pytest.mark.parametrize("dtype", [F32, BF16, F16])
@given(n=st.integers(1, 70), k=st.integers(1, 70))
def test_unpacking_undoes_packing(dtype: DType, n: int, k: int) -> None:
    weight = np.random.default_rng(n * 71 + k).standard_normal((n, k)).astype(dtype.numpy)
    plain = unpack_panels(pack_linear(weight, dtype))
    np.testing.assert_array_equal(plain.T[:n, :k], weight)


@pytest.mark.parametrize("target_type", [F32, BF16, F16])
@pytest.mark.parametrize("source_type", [F32, BF16, F16])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(n=st.integers(1, 90), k=st.integers(1, 150))
def test_the_native_program_writes_the_same_bytes(
    pack: Pack, source_type: DType, target_type: DType, n: int, k: int
) -> None:
    generator = np.random.default_rng(n * 151 + k)
    weight = generator.standard_normal((n, k)).astype(source_type.numpy)
    target = np.full(panel_shape(n, k, target_type), np.nan, target_type.numpy)
    assert pack(weight, target, (CODES[source_type], CODES[target_type])) == 0
    assert target.tobytes() == pack_linear(weight, target_type).tobytes()


@pytest.mark.parametrize(
    ("packing", "dtype", "codes"),
    [
        (QUANTIZED_BYTES, np.int8, (1, 3)),
        (QUANTIZED_BYTES, ml_dtypes.float8_e4m3fn, (0, 3)),
        (QUANTIZED_NIBBLES, np.uint8, (0, 4)),
    ],
)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(n=st.integers(1, 140), k=st.integers(1, 150))
def test_the_native_program_writes_the_same_quantised_bytes(
    pack: Pack, packing: str, dtype: Any, codes: tuple[int, int], n: int, k: int
) -> None:
    bits = np.random.default_rng(n * 151 + k).integers(0, 256, (n, k)).astype(np.uint8)
    weight = bits.view(dtype)
    wanted = pack_quantized(weight, packing, -(-n // 64))
    target = np.full(wanted.shape, 255, np.uint8)
    assert pack(weight, target, codes) == 0
    assert target.tobytes() == wanted.tobytes()


def test_rows_that_lie_apart_are_packed_without_a_copy(pack: Pack) -> None:
    both = np.random.default_rng(0).standard_normal((20, 2, 40)).astype(np.float32)
    target = np.empty(panel_shape(20, 40, F32), np.float32)
    assert pack(both[:, 1], target, (CODES[F32], CODES[F32])) == 0
    np.testing.assert_array_equal(target, pack_linear(both[:, 1], F32))


def test_an_unknown_source_type_is_refused(pack: Pack) -> None:
    weight, target = np.zeros((8, 8), np.float32), np.zeros((1, 8, 16), np.float32)
    assert pack(weight, target, (9, CODES[F32])) == 2


def test_element_types_that_cannot_be_packed_are_named() -> None:
    with pytest.raises(InputError, match="cannot be packed as i64"):
        pack_linear(np.zeros((8, 8), np.float32), DType.INT64)
