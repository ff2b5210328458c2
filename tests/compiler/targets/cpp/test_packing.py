"""Packed weights: NumPy is the meaning, C++ does the same bytes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.packing import (
    WeightPacker,
    build_packer,
    pack_linear,
    packed_bytes,
    packed_shape,
    unpack_linear,
)
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.devices.thread_pool import open_thread_pool
from banyan.foundation.errors import InputError

BF16, F16, F32 = DType.BFLOAT16, DType.FLOAT16, DType.FLOAT32


@pytest.fixture(scope="module")
def packer(object_cache: Path) -> Iterator[WeightPacker]:
    library = build_packer(detect_instruction_sets()[0], object_cache).path
    with open_thread_pool(2, cache_directory=object_cache) as pool:
        yield WeightPacker(library, pool)


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
    assert packed.shape == (1, 3, 16)
    assert packed[0, :, 0].tolist() == [0, 1, 2]
    assert packed[0, :, 1].tolist() == [3, 4, 5]


def test_sizes_count_the_padding() -> None:
    assert packed_bytes(17, 33, BF16) == 2 * 64 * 16 * 2
    assert packed_bytes(17, 33, F32) == 2 * 33 * 16 * 4


@pytest.mark.parametrize("dtype", [F32, BF16])
@given(n=st.integers(1, 70), k=st.integers(1, 70))
def test_unpacking_undoes_packing(dtype: DType, n: int, k: int) -> None:
    weight = np.random.default_rng(n * 71 + k).standard_normal((n, k)).astype(dtype.numpy)
    np.testing.assert_array_equal(unpack_linear(pack_linear(weight, dtype), n, k), weight)


@pytest.mark.parametrize("target_type", [F32, BF16])
@pytest.mark.parametrize("source_type", [F32, BF16, F16])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(n=st.integers(1, 90), k=st.integers(1, 150))
def test_the_native_packer_writes_the_same_bytes(
    packer: WeightPacker, source_type: DType, target_type: DType, n: int, k: int
) -> None:
    generator = np.random.default_rng(n * 151 + k)
    weight = generator.standard_normal((n, k)).astype(source_type.numpy)
    target = np.full(packed_shape(n, k, target_type), np.nan, target_type.numpy)
    packer.pack(weight, target)
    assert target.tobytes() == pack_linear(weight, target_type).tobytes()


def test_rows_that_lie_apart_are_packed_without_a_copy(packer: WeightPacker) -> None:
    both = np.random.default_rng(0).standard_normal((20, 2, 40)).astype(np.float32)
    target = np.empty(packed_shape(20, 40, F32), np.float32)
    packer.pack(both[:, 1], target)
    np.testing.assert_array_equal(target, pack_linear(both[:, 1], F32))


def test_targets_of_another_shape_are_refused(packer: WeightPacker) -> None:
    with pytest.raises(InputError, match="20 x 40 packs to a contiguous"):
        packer.pack(np.zeros((20, 40), np.float32), np.zeros((1, 40, 16), np.float32))


def test_rows_with_gaps_between_elements_are_refused(packer: WeightPacker) -> None:
    target = np.zeros(packed_shape(8, 8, F32), np.float32)
    with pytest.raises(InputError, match="rows of the weight must be contiguous"):
        packer.pack(np.zeros((8, 8), np.float32, order="F"), target)


def test_element_types_that_cannot_be_packed_are_named(packer: WeightPacker) -> None:
    with pytest.raises(InputError, match="int8 cannot be packed"):
        packer.pack(np.zeros((8, 8), np.int8), np.zeros((1, 8, 16), np.float32))
    with pytest.raises(InputError, match="cannot be packed as f16"):
        packed_shape(8, 8, F16)
