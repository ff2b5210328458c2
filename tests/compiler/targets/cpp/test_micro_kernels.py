"""Every micro-kernel that this machine can run, held to its NumPy meaning."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY
from banyan.devices.native import OPTIMISED_FLAGS, Compiler, find_compiler
from tests.compiler.targets.cpp.kernel_meanings import dot_meaning, linear_meaning
from tests.compiler.targets.cpp.kernels_under_test import (
    BF16,
    EMULATED_AMX,
    F16,
    F32,
    Array,
    Kernels,
    aligned,
    aligned_copy,
    find_level,
    guarded_rows,
    kernel_names,
    kernel_source,
)

SHARED_FIXTURES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DTYPES = [F32, BF16, F16]
TYPES = [*((dtype, dtype) for dtype in DTYPES), (F32, BF16)]


def random_values(seed: int, shape: tuple[int, ...], dtype: DType) -> Array:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return values.astype(dtype.numpy)


def assert_close(result: Array, expected: Array, left: Array, right: Array) -> None:
    """Errors are measured against the sum of magnitudes, which is what rounding acts on."""
    scale = np.abs(left.astype(np.float32)) @ np.abs(right.astype(np.float32))
    assert np.all(np.abs(result - expected) <= 2e-6 * scale + 1e-30)


def check_linear(kernels: Kernels, types: tuple[DType, DType], shape: tuple[int, int, int]) -> None:
    rows, n, k = shape
    activation, weight = types
    a = random_values(1, (rows, k), activation)
    w = random_values(2, (n, k), weight)
    result = kernels.linear(guarded_rows(a, activation, 5), w, activation, weight)
    assert_close(result, linear_meaning(a, w), a, w.T)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 7, 8, 9, 12, 13, 16, 17, 25, 31, 32, 33, 70])
def test_a_linear_equals_its_meaning_for_any_number_of_rows(
    kernels: Kernels, types: tuple[DType, DType], rows: int
) -> None:
    check_linear(kernels, types, (rows, 96, 64))


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("k", [1, 2, 31, 32, 33, 511, 512, 544, 1025, 1100])
def test_a_linear_handles_every_remainder_of_k(
    kernels: Kernels, types: tuple[DType, DType], k: int
) -> None:
    for rows in (1, 9, 16, 40):
        check_linear(kernels, types, (rows, 80, k))


@pytest.mark.parametrize("types", TYPES)
@SHARED_FIXTURES
@given(rows=st.integers(1, 80), n=st.integers(1, 200), k=st.integers(1, 300))
def test_a_linear_equals_its_meaning_for_any_shape(
    kernels: Kernels, types: tuple[DType, DType], rows: int, n: int, k: int
) -> None:
    check_linear(kernels, types, (rows, n, k))


@pytest.mark.parametrize("types", TYPES)
def test_a_row_gives_the_same_bits_alone_and_among_others(
    kernels: Kernels, types: tuple[DType, DType]
) -> None:
    if kernels.name == EMULATED_AMX and types == (BF16, BF16):
        pytest.skip("AMX sums in another order than the instruction used for single rows")
    activation, weight = types
    a, w = random_values(3, (37, 600), activation), random_values(4, (96, 600), weight)
    together = kernels.linear(aligned_copy(a, activation), w, activation, weight)
    for row in (0, 5, 36):
        alone = kernels.linear(aligned_copy(a[row : row + 1], activation), w, activation, weight)
        np.testing.assert_array_equal(alone[0], together[row])


def key_block(dtype: DType, depth: int) -> tuple[Array, Array]:
    """Sixteen keys as the cache holds them, and the same as a [depth, 16] matrix."""
    matrix = random_values(5, (depth, 16), dtype)
    if dtype is not BF16:
        return aligned_copy(matrix, dtype), matrix
    return aligned_copy(matrix.reshape(depth // 2, 2, 16).transpose(0, 2, 1), dtype), matrix


def value_block(dtype: DType, head: int) -> tuple[Array, Array]:
    """Sixteen values as the cache holds them, and the same as a [16, head] matrix."""
    matrix = random_values(6, (16, head), dtype)
    if dtype is not BF16:
        return aligned_copy(matrix, dtype), matrix
    return aligned_copy(matrix.reshape(8, 2, head).transpose(0, 2, 1), dtype), matrix


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 5, 7, 16, 20, 48, 64, 100])
def test_a_dot_with_a_key_block_gives_scores(kernels: Kernels, dtype: DType, rows: int) -> None:
    for depth in (16, 64, 80, 128, 300):
        block, matrix = key_block(dtype, depth)
        queries = random_values(7, (rows, depth), dtype)
        scores = aligned((rows, 16), F32)
        kernels.dot(guarded_rows(queries, dtype, 3), block, scores, accumulate=False)
        assert_close(scores, dot_meaning(queries, matrix), queries, matrix)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 6, 16, 33])
@pytest.mark.parametrize("head", [16, 80, 128])
def test_a_dot_with_a_value_block_adds_to_the_sum(
    kernels: Kernels, dtype: DType, rows: int, head: int
) -> None:
    block, matrix = value_block(dtype, head)
    weights = random_values(8, (rows, 16), dtype)
    before = random_values(9, (rows, head), F32)
    total = aligned_copy(before, F32)
    kernels.dot(aligned_copy(weights, dtype), block, total, accumulate=True)
    added = np.abs(dot_meaning(np.abs(weights), np.abs(matrix)))
    error = np.abs(total - (before + dot_meaning(weights, matrix)))
    assert np.all(error <= 2e-6 * (added + np.abs(before)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_a_dot_give_the_same_bits_alone_and_among_others(
    kernels: Kernels, dtype: DType
) -> None:
    if kernels.name == EMULATED_AMX and dtype is BF16:
        pytest.skip("AMX takes whole tiles of rows only")
    block, _ = key_block(dtype, 128)
    queries = random_values(7, (19, 128), dtype)
    together = aligned((19, 16), F32)
    kernels.dot(aligned_copy(queries, dtype), block, together, accumulate=False)
    for row in (0, 6, 18):
        alone = aligned((1, 16), F32)
        kernels.dot(aligned_copy(queries[row : row + 1], dtype), block, alone, accumulate=False)
        np.testing.assert_array_equal(alone[0], together[row])


def scattered(blocks: list[tuple[Array, Array]]) -> tuple[list[Array | None], list[Array]]:
    """The blocks with one missing, and their matrices with zeros for it."""
    packed: list[Array | None] = [block for block, _ in blocks]
    packed[2] = None
    matrices = [matrix if i != 2 else np.zeros_like(matrix) for i, (_, matrix) in enumerate(blocks)]
    return packed, matrices


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 5, 7, 16, 48])
@pytest.mark.parametrize("count", [3, 8])
def test_scattered_key_blocks_give_scores_side_by_side(
    kernels: Kernels, dtype: DType, rows: int, count: int
) -> None:
    packed, matrices = scattered([key_block(dtype, 64) for _ in range(count)])
    queries = random_values(7, (rows, 64), dtype)
    scores = aligned((rows, 16 * count + 16), F32)
    kernels.block_columns(guarded_rows(queries, dtype, 3), packed, scores)
    wanted = np.concatenate(matrices, axis=1)
    found = scores[:, : 16 * count]
    assert_close(found, dot_meaning(queries, wanted), queries, wanted)
    assert np.isnan(scores[:, 16 * count :]).all(), "wrote beyond the last block"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 6, 16, 33])
@pytest.mark.parametrize("head", [16, 80, 200])
def test_scattered_value_blocks_add_to_the_sum(
    kernels: Kernels, dtype: DType, rows: int, head: int
) -> None:
    packed, matrices = scattered([value_block(dtype, head) for _ in range(5)])
    weights = aligned_copy(random_values(8, (rows, 80), dtype), dtype)
    weights[:, 32:48] = np.nan  # a missing block is not looked at
    clean = np.where(np.isnan(weights.astype(np.float32)), 0, weights.astype(np.float32))
    before = random_values(9, (rows, head), F32)
    matrix = np.concatenate(matrices).astype(np.float32)
    for accumulate in (True, False):
        total = aligned_copy(before, F32)
        kernels.block_rows(weights, packed, total, accumulate=accumulate)
        base = before if accumulate else np.zeros_like(before)
        bound = np.abs(clean) @ np.abs(matrix) + np.abs(base)
        assert np.all(np.abs(total - (base + clean @ matrix)) <= 2e-6 * bound)


@pytest.mark.parametrize("rows", [1, 6, 7, 16, 33])
@pytest.mark.parametrize("count", [5, 40])
def test_scattered_blocks_of_bytes_are_multiplied_to_sixteen_bits(
    kernels: Kernels, rows: int, count: int
) -> None:
    queries = random_values(7, (rows, 64), BF16)
    queries[rows // 2] = 0
    weights = random_values(8, (rows, 16 * count), BF16)
    matrices = np.random.default_rng(rows).integers(-128, 128, (count, 64, 16)).astype(np.int8)
    matrices[2] = 0
    keys: list[Array | None] = [
        np.ascontiguousarray(m.reshape(32, 2, 16).swapaxes(1, 2)) for m in matrices
    ]
    values: list[Array | None] = [
        np.ascontiguousarray(m.T.reshape(8, 2, 64).swapaxes(1, 2)) for m in matrices
    ]
    keys[2] = values[2] = None
    scores, total = aligned((rows, 16 * count), F32), aligned((rows, 64), F32)
    kernels.block_columns(guarded_rows(queries, BF16, 3), keys, scores)
    kernels.block_rows(guarded_rows(weights, BF16, 3), values, total, accumulate=False)
    across, along = np.concatenate(matrices, axis=1), np.concatenate(matrices, axis=1).T
    for a, matrix, found in ((queries, across, scores), (weights, along, total)):
        wide, exact = a.astype(np.float32), matrix.astype(np.float32)
        bound = np.abs(wide).max(axis=1)[:, None] * np.abs(exact).sum(axis=0)
        assert np.all(np.abs(found - wide @ exact) <= 3e-5 * bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_a_block_dot_give_the_same_bits_alone_and_among_others(
    kernels: Kernels, dtype: DType
) -> None:
    if kernels.name == EMULATED_AMX and dtype is BF16:
        pytest.skip("AMX takes whole tiles of rows only")
    packed = [value_block(dtype, 128)[0] for _ in range(8)]
    weights = random_values(7, (19, 128), dtype)
    together = aligned((19, 128), F32)
    kernels.block_rows(aligned_copy(weights, dtype), packed, together, accumulate=False)
    for row in (0, 6, 18):
        alone = aligned((1, 128), F32)
        kernels.block_rows(
            aligned_copy(weights[row : row + 1], dtype), packed, alone, accumulate=False
        )
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("count", range(1, 8))
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_that_have_no_weight_change_no_bit(
    kernels: Kernels, dtype: DType, count: int
) -> None:
    # A row of a prompt shares its tile with later rows, which see blocks that it does not.
    packed: list[Array | None] = [value_block(dtype, 128)[0] for _ in range(8)]
    weights = random_values(7, (2, 128), dtype)
    weights[:, 16 * count :] = 0
    few, many = aligned((2, 128), F32), aligned((2, 128), F32)
    kernels.block_rows(aligned_copy(weights, dtype), packed, many, accumulate=False)
    packed[count:] = [None] * (8 - count)
    kernels.block_rows(aligned_copy(weights, dtype), packed, few, accumulate=False)
    np.testing.assert_array_equal(few, many)


def test_the_emulated_amx_kernels_do_use_tiles(object_cache: Path) -> None:
    if EMULATED_AMX not in kernel_names():
        pytest.skip("the AMX kernels need AVX-512 BF16 for their remainders")
    kernels = Kernels(EMULATED_AMX, object_cache)
    before = kernels.tile_products()
    check_linear(kernels, (BF16, BF16), (32, 32, 64))
    assert kernels.tile_products() - before == 2 * 2 * 2
    check_linear(kernels, (BF16, BF16), (4, 64, 64))
    assert kernels.tile_products() - before == 8 + 4 * 2
    check_linear(kernels, (BF16, BF16), (3, 64, 64))
    assert kernels.tile_products() - before == 16


@pytest.mark.wide
def test_the_true_amx_kernels_compile_to_tile_instructions(tmp_path: Path) -> None:
    compiler = find_compiler()
    if not isinstance(compiler, Compiler):
        pytest.skip("no C++ compiler")
    source = tmp_path / "kernels.cpp"
    source.write_text(kernel_source("amx_bf16", emulated=False))
    flags = (*OPTIMISED_FLAGS, *find_level("amx_bf16").compiler_flags)
    command = [str(compiler.path), "-std=c++17", *flags, f"-I{KERNEL_DIRECTORY}", "-S"]
    result = subprocess.run(
        [*command, "-o", "-", str(source)], capture_output=True, text=True, check=False
    )
    if "bad value" in result.stderr:
        pytest.skip("this compiler does not know sapphirerapids")
    assert result.returncode == 0, result.stderr
    for instruction in ("tdpbf16ps", "tileloaddt1", "ldtilecfg", "tilerelease", "vdpbf16ps"):
        assert instruction in result.stdout
