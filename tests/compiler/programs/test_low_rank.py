"""What adapters add: the program of kernels against its meaning, and against plain matrices."""

from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter.run import run_graph
from tests.compiler.comparing import assert_same_results

NUM_ADAPTERS, DEPTH, RANK, COLUMNS = 5, 32, 4, (32, 16, 16)
NONE = NUM_ADAPTERS


def low_rank_graph(dtype: DType, columns: tuple[int, ...] = COLUMNS) -> Graph:
    """One group of layers over rows [rows, 32]."""
    builder, rows, pack = Builder(), symbol("rows", 1, 64), 4 // dtype.num_bytes
    width = -(-RANK * len(columns) // 16) * 16
    down, up = (DEPTH // pack, width, pack), (RANK // pack, 16, pack)
    inputs = (
        builder.input("x", TensorType((rows, DEPTH), dtype)),
        builder.input("down", TensorType((NUM_ADAPTERS, *down), dtype), "state"),
        builder.input("up", TensorType((NUM_ADAPTERS * sum(columns) // 16, *up), dtype), "state"),
        builder.input("chosen", TensorType((rows,), DType.INT32)),
    )
    node = builder.add("low_rank", inputs, columns=columns)
    return Graph("low_rank", inputs, (Output("out", node),))


def arrays(graph: Graph, chosen: list[int]) -> dict[str, Any]:
    """Random factors and one row for each entry of `chosen`."""
    generator = np.random.default_rng(5)
    found: dict[str, Any] = {"chosen": np.array(chosen, np.int32)}
    for node in graph.inputs:
        name = str(node.attr("name"))
        if name != "chosen":
            shape = [size if isinstance(size, int) else len(chosen) for size in node.shape]
            found[name] = generator.normal(size=shape).astype(node.dtype.numpy)
    return found


def expected(given: dict[str, Any], columns: tuple[int, ...]) -> Any:
    """Row by row with whole matrices [N, r] and [r, K]."""
    rows = []
    for row, adapter in zip(given["x"], given["chosen"], strict=True):
        if adapter == NONE:
            rows.append(np.zeros(sum(columns), np.float32))
            continue
        down = given["down"][adapter].transpose(0, 2, 1).reshape(DEPTH, -1)
        blocks = np.split(given["up"], NUM_ADAPTERS)[adapter]
        up = np.concatenate([b.transpose(0, 2, 1).reshape(RANK, 16) for b in blocks], axis=1)
        narrow, start, parts = row @ down, 0, []
        for i, size in enumerate(columns):
            parts.append(narrow[i * RANK : (i + 1) * RANK] @ up[:, start : start + size])
            start += size
        rows.append(np.concatenate(parts))
    return np.stack(rows)


CHOSEN = [
    [2],
    [NONE],
    [NONE] * 9,
    [4, 4, 4, 4, 4, 4, 4, 4, 4, 4],
    [3, NONE, 0, 0, 3, 4, NONE, 1, 3, 3, 0, 1, 2, NONE, 4, 4, 4, 4, 4, 4, 4],
]


@pytest.mark.parametrize("chosen", CHOSEN)
def test_each_row_gets_the_change_of_its_adapter(chosen: list[int]) -> None:
    graph = low_rank_graph(DType.FLOAT32)
    given = arrays(graph, chosen)
    found = run_graph(graph, given)["out"]
    np.testing.assert_allclose(found, expected(given, COLUMNS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
def test_the_kernel_means_the_same(dtype: DType, chosen: list[int]) -> None:
    graph = low_rank_graph(dtype)
    assert_same_results(graph, tile(graph), arrays(graph, chosen))


def test_layers_of_one_step_sort_their_rows_once() -> None:
    builder = Builder()
    x = builder.input("x", TensorType((7, 32), DType.FLOAT32))
    chosen = builder.input("chosen", TensorType((7,), DType.INT32))
    inputs, outputs = [x, chosen], []
    for name in ("a", "b"):
        down = builder.input(f"{name}.down", TensorType((3, 32, 16, 1), DType.FLOAT32), "state")
        up = builder.input(f"{name}.up", TensorType((3 * 2, 4, 16, 1), DType.FLOAT32), "state")
        inputs += [down, up]
        node = builder.add("low_rank", (x, down, up, chosen), columns=(32,))
        outputs.append(Output(name, node))
    lowered = tile(Graph("two", tuple(inputs), tuple(outputs)))
    assert sum(node.op == "call" for node in lowered.nodes()) == 3
