"""Scattered rows: each kind, shared places and places for each element, on every target."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.compile import compile_graph
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.options import CompileOptions
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.interpreter import run_graph
from banyan.devices.discovery import find_device
from banyan.foundation.errors import GraphError
from banyan.foundation.settings import Settings
from tests.compiler.comparing import assert_same_results
from tests.compiler.small_graphs import Weights

M, C = symbol("M", 1, 64), symbol("C", 1, 300)
F32, BF16, I64, BOOL = DType.FLOAT32, DType.BFLOAT16, DType.INT64, DType.BOOL
KINDS = ("set", "add", "prod", "amax", "amin")
CASES = [
    *(("shared", F32, kind) for kind in KINDS),
    *(("each", F32, kind) for kind in KINDS),
    ("shared", BF16, "set"),
    ("each", I64, "amax"),
    ("each", BOOL, "set"),
    ("filled", F32, "add"),
]


def scatter_graph() -> Graph:
    """Every case as one output; the target has 7 places."""
    builder, inputs, outputs = Builder(), [], []
    shared = builder.input("shared", TensorType((M,), I64))
    each = builder.input("each", TensorType((2, M, C), DType.INT32))
    for number, (place, dtype, kind) in enumerate(CASES):
        x = builder.input(f"x{number}", TensorType((2, 7, C), dtype))
        rows = builder.input(f"rows{number}", TensorType((2, M, C), dtype))
        target = x
        if place == "filled":
            constant = builder.add("constant", value=1.5, dtype=dtype)
            target = builder.add("expand", (constant,), shape=x.shape)
        index = each if place == "each" else shared
        y = builder.add("scatter", (target, index, rows), kind=kind)
        inputs += [x, rows]
        outputs.append(Output(f"y{number}", y))
    return Graph("scatter", (shared, each, *inputs), tuple(outputs))


def scatter_arrays(graph: Graph, entries: int, columns: int) -> dict[str, Any]:
    """Places from -2 to 8, so that some name nothing and most are named often; some NaN."""
    generator = np.random.default_rng(4)
    arrays = {}
    for node in graph.inputs:
        sizes = {M: entries, C: columns}
        shape = [size if isinstance(size, int) else sizes[size] for size in node.shape]
        name = str(node.attr("name"))
        values = generator.integers(-2, 9, shape).astype(np.float64)
        if node.dtype is F32:
            values[generator.random(shape) < 0.03] = np.nan
        arrays[name] = values.astype(node.dtype.numpy)
    return arrays


@pytest.mark.parametrize(("entries", "columns"), [(1, 1), (5, 130), (33, 128)])
def test_the_machine_agrees(entries: int, columns: int, program_cache: Path) -> None:
    graph = scatter_graph()
    arrays = scatter_arrays(graph, entries, columns)
    if columns == 1:
        assert_same_results(graph, lower(graph), arrays)
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    options = CompileOptions(program_cache, optimise=False)
    program = compile_graph(graph, device=device, options=options)
    program.load_weights(Weights({}))
    found, wanted = program.run(arrays), run_graph(graph, arrays)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    device.close()


def test_a_target_of_one_number_is_never_in_memory() -> None:
    graph = scatter_graph()
    assert operations_used(lower(graph))["call"] == len(CASES)


def test_what_rows_mean_is_what_a_loop_writes() -> None:
    graph = scatter_graph()
    arrays = scatter_arrays(graph, 20, 3)
    found = run_graph(graph, arrays)["y6"]  # each, add
    wanted = arrays["x6"].copy()
    for batch, entry, column in np.ndindex(2, 20, 3):
        place = int(arrays["each"][batch, entry, column])
        if 0 <= place < 7:
            wanted[batch, place, column] += arrays["rows6"][batch, entry, column]
    assert CASES[6] == ("each", F32, "add")
    np.testing.assert_array_equal(found, wanted)


def test_unfitting_rows_are_refused() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((2, 7, 3), F32))
    index = builder.input("index", TensorType((5,), I64))
    for shape, kind in (((2, 4, 3), "set"), ((2, 5, 4), "set"), ((2, 5, 3), "mean")):
        rows = builder.input("rows", TensorType(shape, F32))
        with pytest.raises(GraphError, match="scatter"):
            _ = builder.add("scatter", (x, index, rows), kind=kind).shape
