from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.compile import compile_graph
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.options import CompileOptions
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.programs.turning import turns
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings
from tests.compiler.comparing import assert_same_results

T = symbol("T", 1, 300)
BF16, F32, I64, BOOL = DType.BFLOAT16, DType.FLOAT32, DType.INT64, DType.BOOL
CASES: list[tuple[tuple[Dim, ...], tuple[int, ...], DType]] = [
    ((70, 133), (1, 0), BF16),
    ((70, 133), (1, 0), F32),
    ((9, 70), (1, 0), I64),
    ((3, 9, 70), (2, 0, 1), BOOL),
    ((3, 16, 40, 2), (0, 2, 1, 3), BF16),
    ((40, 2, 3, 16), (2, 0, 3, 1), BF16),
    ((2, 5, 40, 1, 3, 16), (0, 1, 4, 2, 5, 3), F32),
    ((T, 21), (1, 0), BF16),
    ((5, 1, T), (2, 1, 0), F32),
    ((4, 5, 6, 7), (3, 1, 2, 0), F32),
]


def turning_graph() -> Graph:
    """Every case as one output, turned in memory."""
    builder = Builder()
    inputs, outputs = [], []
    for number, (shape, order, dtype) in enumerate(CASES):
        x = builder.input(f"x{number}", TensorType(shape, dtype))
        inputs.append(x)
        outputs.append(Output(f"y{number}", builder.add("permute", (x,), order=order)))
    return Graph("turning", tuple(inputs), tuple(outputs))


def test_copies_that_keep_the_last_dim_are_no_turns() -> None:
    assert turns((4, 5), (1, 0), F32)
    assert turns((4, 5, 2), (1, 0, 2), BF16)
    assert not turns((4, 5, 8), (1, 0, 2), BF16)
    assert not turns((4, 5, 2), (1, 0, 2), F32)
    assert not turns((1, 5), (1, 0), F32)
    assert not turns((T, 5, T), (1, 0, 2), F32)


@pytest.mark.parametrize("length", [1, 8, 131])
def test_turned_blocks_hold_what_the_permutation_means(length: int, tmp_path: Path) -> None:
    graph = turning_graph()
    generator = np.random.default_rng(1)
    arrays = {}
    for node in graph.inputs:
        shape = [length if not isinstance(d, int) else d for d in node.shape]
        values = generator.integers(0, 2 if node.dtype is BOOL else 100, shape)
        arrays[str(node.attr("name"))] = values.astype(node.dtype.numpy)
    lowered = lower(graph)
    assert operations_used(lowered)["call"] == len(CASES)
    if length == 8:
        assert_same_results(graph, lowered, arrays)
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    device = find_device("cpu", settings=Settings(cache_directory=tmp_path), num_threads=2)
    program = compile_graph(graph, device=device, options=CompileOptions(tmp_path, optimise=False))
    program.load_weights(NoWeights())
    found = program.run(arrays)
    for number, (_, order, _) in enumerate(CASES):
        wanted = arrays[f"x{number}"].transpose(order)
        assert np.array_equal(found[f"y{number}"], wanted), number
    device.close()


class NoWeights:
    """A source that has none."""

    def names(self) -> list[str]:
        return []

    def read(self, name: str) -> np.ndarray:
        raise KeyError(name)

    def release(self, name: str) -> None:
        """Nothing to release."""
