"""Kernels for quantised weights, held to what the interpreter says they mean."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.compiler.ir.types import DType
from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY
from banyan.compiler.targets.interpreter.packed_quantized import quantize_rows
from banyan.compiler.targets.interpreter.quantized import dequantized
from banyan.devices.native import OPTIMISED_FLAGS, Compiler, find_compiler
from tests.compiler.targets.cpp.kernel_meanings import linear_meaning, quantized_rows_meaning
from tests.compiler.targets.cpp.kernels_under_test import (
    BF16,
    EMULATED_AMX,
    F32,
    Array,
    find_level,
    guarded_rows,
    kernel_names,
)
from tests.compiler.targets.cpp.quantized_kernels import INTEGER, QuantizedKernels, source

# AVX-512 without byte products takes the way of AVX2 on longer vectors.
LEVELS = [
    pytest.param(name, marks=[pytest.mark.wide] if name == "avx512" else [])
    for name in kernel_names()
]


@pytest.fixture(scope="module", params=LEVELS)
def kernels(request: pytest.FixtureRequest, object_cache: Path) -> Iterator[QuantizedKernels]:
    found = QuantizedKernels(request.param, object_cache)
    yield found
    found.library.close()


@dataclass(frozen=True)
class Layer:
    """A weight of one format: N x K in groups."""

    layout: str
    columns: int
    depth: int
    group: int
    zeros: bool = False
    shared: int = 1

    def weights(self) -> tuple[Array, ...]:
        random = np.random.default_rng(self.columns * 1009 + self.depth)
        blocks = -(-self.columns // self.shared), -(-self.depth // self.group)
        scales = random.uniform(0.01, 0.1, blocks).astype(np.float32)
        zeros = (random.integers(0, 16, blocks).astype(np.uint8),) if self.zeros else ()
        width = self.depth // 2 if self.layout == "int4" else self.depth
        bits = random.integers(0, 256, (self.columns, width)).astype(np.uint8)
        if self.layout == "int8":
            return bits.view(np.int8), scales
        if self.layout == "int4":
            return bits, scales, *zeros
        finite = np.where(bits & 0x7F == 0x7F, 0, bits).astype(np.uint8)
        return finite.view(ml_dtypes.float8_e4m3fn), scales


def check(kernels: QuantizedKernels, layer: Layer, activation: DType, rows: int) -> None:
    random = np.random.default_rng(rows)
    plain = BF16 if activation is INTEGER else activation
    x = (random.standard_normal((rows, layer.depth)) * 3).astype(plain.numpy)
    parts = layer.weights()
    attrs = {"format": layer.layout, "group": layer.group, "rows": layer.shared}
    weight = dequantized(parts, attrs)
    held, meant = guarded_rows(x, plain, 5), x.astype(np.float32)
    if activation is INTEGER:
        held = kernels.rows(x, layer.group)
        meant = quantized_rows_meaning(x)
    result = kernels.linear(
        held, parts, layer.layout, (layer.columns, layer.depth), (layer.group, layer.shared)
    )
    scale = np.abs(meant) @ np.abs(weight).T
    error = np.abs(result - linear_meaning(meant, weight))
    assert np.all(error <= 4e-6 * scale + 6e-6 * scale.max())


LAYERS = [
    Layer("int8", 100, 70, 70),
    Layer("int8", 64, 1100, 1100),
    Layer("int8", 130, 192, 64),
    Layer("int8", 64, 2300, 2300),
    Layer("int4", 100, 70, 70),
    Layer("int4", 70, 2300, 2300),
    Layer("int4", 64, 2304, 1152),
    Layer("int4", 64, 32, 32),
    Layer("int4", 64, 2304, 64, zeros=True),
    Layer("int4", 64, 96, 32),
    Layer("int4", 130, 192, 64, zeros=True),
    Layer("int4", 64, 1152, 128, zeros=True),
    Layer("int4", 70, 64, 64, zeros=True),
    Layer("fp8", 130, 192, 64),
    Layer("fp8", 200, 200, 128, shared=128),
    Layer("fp8", 64, 71, 71),
]


CASES = [
    (layer, activation)
    for layer in LAYERS
    for activation in (INTEGER, BF16, F32)
    if activation is not INTEGER or layer.layout != "fp8"
]


@pytest.mark.parametrize(("layer", "activation"), CASES, ids=str)
def test_a_linear_equals_its_meaning(
    kernels: QuantizedKernels, layer: Layer, activation: DType
) -> None:
    for rows in (1, 2, 4, 5, 7, 9, 13, 16, 17, 25, 50):
        check(kernels, layer, activation, rows)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    layout=st.sampled_from(["int8", "int4", "fp8"]),
    columns=st.integers(1, 200),
    groups=st.integers(1, 7),
    group=st.sampled_from([32, 64, 128]),
    rows=st.integers(1, 40),
    zeros=st.booleans(),
    activation=st.sampled_from([INTEGER, BF16, F32]),
)
def test_a_linear_equals_its_meaning_for_any_shape(
    kernels: QuantizedKernels, layout: str, columns: int, groups: int, group: int, rows: int,
    zeros: bool, activation: DType,
) -> None:  # fmt: skip
    if activation is INTEGER and layout == "fp8":
        activation = BF16
    layer = Layer(layout, columns, groups * group, group, zeros=zeros and layout == "int4")
    check(kernels, layer, activation, rows)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(k=st.integers(1, 300), group=st.sampled_from([32, 64, 300]), scale=st.floats(-30, 30))
def test_rows_are_quantised_to_the_bytes_of_the_interpreter(
    kernels: QuantizedKernels, k: int, group: int, scale: float
) -> None:
    x = np.random.default_rng(k).standard_normal((3, k)) * 10.0**scale
    x[1] = 0
    for dtype in (F32, BF16):
        rows = x.astype(dtype.numpy)
        wanted = quantize_rows((rows,), {"group": group})
        np.testing.assert_array_equal(kernels.rows(rows, group), wanted)


def test_ties_round_to_even_and_rows_that_are_not_finite_give_no_number(
    kernels: QuantizedKernels,
) -> None:
    x = np.zeros((3, 64), np.float32)
    x[0, :4] = [127, 2.5, -3.5, 0.5]
    x[1, 5] = np.inf
    x[2, 7] = np.nan
    rows = kernels.rows(x, 64)
    assert rows[0, :4].tolist() == [127, -4, 2, 0]
    steps: Any = np.ascontiguousarray(rows[:, 64:68]).view(np.float32)[:, 0]
    assert steps[0] == 1
    assert np.isnan(steps[1:]).all()


def test_a_row_gives_the_same_bits_alone_and_among_others(kernels: QuantizedKernels) -> None:
    layer = Layer("int4", 130, 1152, 64, zeros=True)
    x = np.random.default_rng(3).standard_normal((37, 1152)).astype(np.float32)
    rows = kernels.rows(x, 64)
    together = kernels.linear(rows, layer.weights(), "int4", (130, 1152), (64, 1))
    for row in (0, 5, 36):
        alone = kernels.linear(rows[row : row + 1], layer.weights(), "int4", (130, 1152), (64, 1))
        np.testing.assert_array_equal(alone[0], together[row])


def test_the_emulated_amx_kernels_do_use_tiles(object_cache: Path) -> None:
    if EMULATED_AMX not in kernel_names():
        pytest.skip("the AMX kernels need AVX-512 for their remainders")
    kernels = QuantizedKernels(EMULATED_AMX, object_cache)
    before = kernels.tile_products()
    check(kernels, Layer("int8", 64, 128, 128), INTEGER, 32)
    assert kernels.tile_products() - before == 2 * 2 * 2 * 2
    check(kernels, Layer("int4", 64, 128, 32), INTEGER, 8)
    assert kernels.tile_products() - before == 16 + 4 * 4
    check(kernels, Layer("int8", 64, 128, 128), INTEGER, 4)
    assert kernels.tile_products() - before == 32


def test_the_true_amx_kernels_compile_to_tile_instructions(tmp_path: Path) -> None:
    compiler = find_compiler()
    if not isinstance(compiler, Compiler):
        pytest.skip("no C++ compiler")
    text = tmp_path / "kernels.cpp"
    text.write_text(source("amx_bf16", emulated=False))
    flags = (*OPTIMISED_FLAGS, *find_level("amx_bf16").compiler_flags)
    command = [str(compiler.path), "-std=c++17", *flags, f"-I{KERNEL_DIRECTORY}", "-S"]
    result = subprocess.run(
        [*command, "-o", "-", str(text)], capture_output=True, text=True, check=False
    )
    if "bad value" in result.stderr:
        pytest.skip("this compiler does not know sapphirerapids")
    assert result.returncode == 0, result.stderr
    for instruction in ("tdpbsud", "tileloaddt1", "ldtilecfg", "tilerelease", "vpdpbusd"):
        assert instruction in result.stdout
