"""Elementary functions and conversions of generated code, compared with float64 arithmetic."""

import ctypes
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.compiler.targets.cpp.registry import KERNEL_DIRECTORY
from banyan.devices.instruction_sets import detect_instruction_sets
from banyan.devices.native import OPTIMISED_FLAGS, build_shared_object

Array = NDArray[Any]
Apply: TypeAlias = Callable[[str, Array, type], Array]

FUNCTIONS = ("exp", "log", "tanh", "erf", "sin", "cos", "sigmoid", "silu", "rsqrt")
CONVERSIONS = {
    "to_bfloat16": ("float", "banyan::bfloat16", "banyan::from_float<banyan::bfloat16>"),
    "to_float16": ("float", "banyan::float16", "banyan::from_float<banyan::float16>"),
    "from_bfloat16": ("banyan::bfloat16", "float", "banyan::to_float"),
    "from_float16": ("banyan::float16", "float", "banyan::to_float"),
}


def loop(name: str, source: str, target: str, function: str) -> str:
    return f"""
extern "C" void apply_{name}(const {source}* x, {target}* y, int64_t count) {{
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = {function}(x[i]);
}}
"""


SOURCE = '#include "vector_math.h"\n' + "".join(
    [
        *(loop(name, "float", "float", f"banyan::{name}") for name in FUNCTIONS),
        *(loop(name, *parts) for name, parts in CONVERSIONS.items()),
    ]
)


@pytest.fixture(scope="module", params=[level.name for level in detect_instruction_sets()])
def apply(request: pytest.FixtureRequest, object_cache: Path) -> Apply:
    level = next(level for level in detect_instruction_sets() if level.name == request.param)
    built = build_shared_object(
        SOURCE,
        flags=(*OPTIMISED_FLAGS, *level.compiler_flags),
        cache_directory=object_cache,
        name="vector_math",
        include_directories=(KERNEL_DIRECTORY,),
    )
    library = ctypes.CDLL(str(built.path))

    def call(name: str, x: Array, result: type) -> Array:
        y: Array = np.empty(x.shape, result)
        function = getattr(library, f"apply_{name}")
        function(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data), x.size)
        return y

    return call


def last_place_error(result: Array, exact: Array) -> float:
    unit = np.spacing(np.abs(exact.astype(np.float32))).astype(np.float64)
    return float((np.abs(result.astype(np.float64) - exact) / unit).max())


def uniform(low: float, high: float) -> Array:
    return np.random.default_rng(0).uniform(low, high, 50_000).astype(np.float32)


def powers(low: float, high: float) -> Array:
    return (10.0 ** uniform(low, high)).astype(np.float32)


def logistic(x: Array) -> Array:
    result: Array = 1.0 / (1.0 + np.exp(-x))
    return result


EXACT: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf),
    "sin": np.sin,
    "cos": np.cos,
    "sigmoid": logistic,
    "silu": lambda x: x * logistic(x),
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
}


@pytest.mark.parametrize(
    ("name", "x", "limit"),
    [
        ("exp", uniform(-104, 88.7), 2.0),
        ("exp", uniform(-1, 1), 2.0),
        ("log", powers(-44, 38), 3.0),
        ("log", uniform(0.5, 2), 3.0),
        ("tanh", uniform(-9, 9), 3.0),
        ("tanh", powers(-30, 0), 3.0),
        ("sigmoid", uniform(-87, 88), 3.0),
        ("silu", uniform(-80, 88), 4.0),
        ("rsqrt", powers(-37, 38), 2.0),
    ],
)
def test_errors_in_units_in_the_last_place(apply: Apply, name: str, x: Array, limit: float) -> None:
    exact = EXACT[name](x.astype(np.float64))
    assert last_place_error(apply(name, x, np.float32), exact) <= limit


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("erf", uniform(-6, 6)),
        ("sin", uniform(-1e6, 1e6)),
        ("sin", uniform(-4, 4)),
        ("cos", uniform(-1e6, 1e6)),
        ("cos", uniform(-4, 4)),
    ],
)
def test_absolute_errors(apply: Apply, name: str, x: Array) -> None:
    error = np.abs(apply(name, x, np.float32) - EXACT[name](x.astype(np.float64)))
    assert error.max() <= 2e-7


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [np.inf, -np.inf, 100.0, -200.0, 0.0], [np.inf, 0.0, np.inf, 0.0, 1.0]),
        ("log", [0.0, np.inf, 1.0], [-np.inf, np.inf, 0.0]),
        ("tanh", [np.inf, -np.inf, 0.0], [1.0, -1.0, 0.0]),
        ("erf", [np.inf, -np.inf, 0.0], [1.0, -1.0, 0.0]),
        ("sigmoid", [np.inf, -np.inf, 0.0], [1.0, 0.0, 0.5]),
        ("silu", [np.inf, 0.0, -200.0], [np.inf, 0.0, 0.0]),
    ],
)
def test_extreme_arguments(apply: Apply, name: str, x: list[float], expected: list[float]) -> None:
    result = apply(name, np.array(x, np.float32), np.float32)
    np.testing.assert_array_equal(result, np.array(expected, np.float32))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_gives_nan(apply: Apply, name: str) -> None:
    assert np.isnan(apply(name, np.full(40, np.nan, np.float32), np.float32)).all()


def test_logarithms_of_negative_numbers_are_nan(apply: Apply) -> None:
    assert np.isnan(apply("log", np.array([-1.0, -np.inf], np.float32), np.float32)).all()


INTERESTING = np.array(
    [
        *(0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40),
        *(1.00390625, 1.01171875),  # ties in bfloat16
        *(65504.0, 65519.9, 65520.0, 1e6, 6e-8, 2.98e-8, 2.99e-8, 6.1e-5, -6.09e-5),
    ],
    np.float32,
)


@pytest.mark.parametrize(
    ("name", "half"), [("to_bfloat16", ml_dtypes.bfloat16), ("to_float16", np.float16)]
)
def test_rounding_to_sixteen_bits_is_to_nearest_even(apply: Apply, name: str, half: type) -> None:
    x = np.concatenate([INTERESTING, powers(-9, 5), -powers(-40, 38), uniform(-2, 2)])
    with np.errstate(over="ignore"):
        expected: Array = x.astype(half)
    result = apply(name, x, half)
    finite = ~np.isnan(x)
    np.testing.assert_array_equal(result[finite].view(np.uint16), expected[finite].view(np.uint16))
    assert np.isnan(result[~finite].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("name", "half"), [("from_bfloat16", ml_dtypes.bfloat16), ("from_float16", np.float16)]
)
def test_widening_is_exact_for_all_sixteen_bit_patterns(
    apply: Apply, name: str, half: type
) -> None:
    every: Array = np.arange(65536, dtype=np.uint16).view(half)
    np.testing.assert_array_equal(apply(name, every, np.float32), every.astype(np.float32))
