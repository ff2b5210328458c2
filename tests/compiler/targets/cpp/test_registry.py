"""Which micro-kernel is chosen for which machine."""

import itertools

import pytest

from banyan.compiler.ir.quantized import STORED
from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.registry import (
    KERNEL_DIRECTORY,
    KERNELS,
    Operation,
    choose,
    rows_per_item,
)
from banyan.devices.instruction_sets import INSTRUCTION_SETS
from banyan.foundation.errors import GraphError

BF16, F16, F32 = DType.BFLOAT16, DType.FLOAT16, DType.FLOAT32


def test_names_are_unique_and_headers_exist() -> None:
    assert len({kernel.name for kernel in KERNELS}) == len(KERNELS)
    assert all((KERNEL_DIRECTORY / kernel.header).is_file() for kernel in KERNELS)


@pytest.mark.parametrize(
    ("level", "types", "expected"),
    [
        ("amx_bf16", (BF16, BF16), "linear.amx_bf16.bf16.bf16"),
        ("amx_bf16", (F32, F32), "linear.avx512.f32.f32"),
        ("avx512_bf16", (BF16, BF16), "linear.avx512_bf16.bf16.bf16"),
        ("avx512", (BF16, BF16), "linear.avx512.bf16.bf16"),
        ("avx512_bf16", (F16, F16), "linear.avx512.f16.f16"),
        ("avx2", (F32, BF16), "linear.avx2.f32.bf16"),
        ("portable", (F32, F32), "linear.portable.f32.f32"),
    ],
)
def test_the_best_linear_of_a_machine_is_chosen(
    level: str, types: tuple[DType, DType], expected: str
) -> None:
    assert choose(Operation.LINEAR, level, *types).name == expected


def test_every_machine_has_every_operation_in_all_types() -> None:
    levels = [level.name for level in INSTRUCTION_SETS]
    plain = (Operation.LINEAR, Operation.TILE_DOT)
    for level, operation, dtype in itertools.product(levels, plain, (F32, BF16, F16)):
        assert choose(operation, level, dtype, dtype).operation is operation
    for level, weight in itertools.product(levels, STORED.values()):
        for activation in (F32, BF16):
            assert choose(Operation.QUANTIZED_LINEAR, level, activation, weight).weight is weight
    for level, weight in itertools.product(levels, (STORED["int8"], STORED["int4"])):
        found = choose(Operation.QUANTIZED_LINEAR, level, DType.INT8, weight)
        assert found.activation is DType.INT8


def test_a_pair_of_types_without_a_kernel_is_named() -> None:
    with pytest.raises(GraphError, match=r"multiplies bf16 by f32"):
        choose(Operation.LINEAR, "avx512", BF16, F32)


def test_tiles_are_given_more_rows_than_vectors() -> None:
    assert rows_per_item("amx_bf16") > rows_per_item("avx512_bf16") == rows_per_item("portable")
