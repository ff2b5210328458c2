"""Programs printed as Triton do what the oracle does, on Triton's own interpreter."""

from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.targets.triton.chips import Chip
from tests.compiler.targets.cpp.test_program import family_cases
from tests.compiler.targets.triton.running import CHIP, SMALL, assert_agrees, run_on_triton
from tests.compiler.test_fuzz import GRAPHS_OF_SLICE, SLICES, random_cases


@pytest.mark.parametrize("number", range(len(family_cases())))
def test_every_family_of_operations_agrees_with_the_oracle(number: int, tmp_path: Path) -> None:
    case = family_cases()[number]
    assert_agrees(case.graph, case.arrays, tmp_path)


def test_bfloat16_is_rounded_to_even_as_the_oracle_rounds(tmp_path: Path) -> None:
    # Triton's own interpreter cuts the last bits off instead.
    builder = Builder()
    x = builder.input("x", TensorType((8,), DType.FLOAT32))
    graph = Graph("cast", (x,), (Output("y", builder.add("cast", (x,), dtype=DType.BFLOAT16)),))
    low, tie, high = 1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-8
    values = [low, tie, high, -high, 1.9999999, 3.4e38, -np.inf, np.nan]
    arrays = {"x": np.array(values, np.float32)}
    found = run_on_triton(graph, arrays, tmp_path)["y"].astype(np.float32)
    np.testing.assert_array_equal(found, run_graph(graph, arrays)["y"].astype(np.float32))


def test_float8_is_rounded_as_the_oracle_rounds(tmp_path: Path) -> None:
    builder, count = Builder(), 1 << 16
    x = builder.input("x", TensorType((count,), DType.FLOAT32))
    rounded = builder.add("cast", (x,), dtype=DType.FLOAT8_E4M3)
    wide = builder.add("cast", (rounded,), dtype=DType.FLOAT32)
    outputs = (Output("stored", rounded), Output("twice", builder.add("add", (wide, wide))))
    graph = Graph("cast", (x,), outputs)
    # Every sign, exponent and first bits of a fraction; ties, and a hair above each.
    halves = np.arange(count, dtype=np.uint32) << 16
    for bits in (halves, halves | 1):
        arrays = {"x": bits.view(np.float32)}
        found, wanted = run_on_triton(graph, arrays, tmp_path), run_graph(graph, arrays)
        for name in ("stored", "twice"):
            ours, theirs = (np.asarray(r[name], np.float32) for r in (found, wanted))
            np.testing.assert_array_equal(ours, theirs)


def test_kernels_that_differ_in_their_types_alone_are_two(tmp_path: Path) -> None:
    builder = Builder()
    inputs = [
        builder.input(t.value, TensorType((4, 6), t)) for t in (DType.FLOAT32, DType.BFLOAT16)
    ]
    turned = [builder.add("slice", (x,), axis=0, start=0, stop=4, step=2) for x in inputs]
    outputs = tuple(Output(f"y{i}", y) for i, y in enumerate(turned))
    numbers = np.arange(24).reshape(4, 6)
    arrays = {
        "f32": (numbers + 0.5).astype(np.float32),
        "bf16": numbers.astype(DType.BFLOAT16.numpy),
    }
    assert_agrees(Graph("copies", tuple(inputs), outputs), arrays, tmp_path)


@pytest.mark.parametrize("chip", [CHIP, SMALL], ids=["whole", "pieces"])
def test_random_graphs_agree_with_the_oracle(chip: Chip, tmp_path: Path) -> None:
    for case in random_cases(1, 12, max_steps=8):
        assert_agrees(case.graph, case.arrays, tmp_path, chip)


@pytest.mark.wide
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(SLICES), ids=lambda n: f"slice-{n}")
def test_thousands_of_random_graphs_agree_with_the_oracle(number: int, tmp_path: Path) -> None:
    for place, case in enumerate(random_cases(number, GRAPHS_OF_SLICE)):
        assert_agrees(case.graph, case.arrays, tmp_path, (CHIP, SMALL)[place % 2])
