import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.passes.expand_quantized import expand_quantized
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.tiling.options import TileOptions
from tests.compiler.comparing import assert_same_results
from tests.compiler.quantized_graphs import CASES, ROWS, Case, arrays, linear_graph


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_quantised_linear_written_out_gives_the_same_numbers(case: Case) -> None:
    graph = linear_graph(case)
    expanded = expand_quantized(graph)
    assert not {"quantized_linear", "unpack"} & operations_used(expanded).keys()
    assert_same_results(graph, expanded, arrays(case), tolerance=1e-4)


@pytest.mark.parametrize("case", [CASES[1], CASES[5]], ids=str)
def test_all_passes_keep_the_numbers_of_a_batch(case: Case) -> None:
    graph = linear_graph(case, (2, ROWS))
    assert_same_results(graph, lower(graph), arrays(case, (2, 3)), tolerance=1e-4)


def test_formats_with_a_kernel_stay() -> None:
    graph = linear_graph(CASES[0])
    assert operations_used(expand_quantized(graph, {"int8"}))["quantized_linear"] == 1
    assert "quantized_linear" not in operations_used(expand_quantized(graph, {"int4"}))
    assert TileOptions().quantized <= {"int8", "int4", "fp8"}


def test_nibbles_come_low_first() -> None:
    builder = Builder()
    packed = builder.input("packed", TensorType((2, 2), DType.UINT8))
    graph = Graph("unpack", (packed,), (Output("out", builder.add("unpack", (packed,), bits=4)),))
    given = {"packed": np.array([[0x21, 0xF3], [0x80, 0x0F]], np.uint8)}
    assert_same_results(graph, expand_quantized(graph), given)
