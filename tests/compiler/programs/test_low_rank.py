"""What adapters add: the program of kernels against its meaning, and against plain matrices."""

from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.tile import tile
from banyan.compiler.targets.interpreter.run import run_graph
from tests.compiler.comparing import assert_same_results

NUM_ADAPTERS, DEPTH, RANK, COLUMNS = 5, 32, 4, (32, 16, 16)
NONE = NUM_ADAPTERS


def low_rank_graph(
    dtype: DType,
    columns: tuple[int, ...] = COLUMNS,
    *,
    depth: int = DEPTH,
    is_rounded: bool = False,
) -> Graph:
    """One group of layers over rows [rows, depth]."""
    builder, rows, pack = Builder(), symbol("rows", 1, 64), 4 // dtype.num_bytes
    stored = DType.INT8 if is_rounded else dtype
    width = -(-RANK * len(columns) // 16) * 16
    down, up = (depth // pack, 16, pack), (RANK // pack, 16, pack)
    inputs: tuple[Node, ...] = (
        builder.input("x", TensorType((rows, depth), dtype)),
        builder.input("down", TensorType((NUM_ADAPTERS * width // 16, *down), stored), "state"),
        builder.input("up", TensorType((NUM_ADAPTERS * sum(columns) // 16, *up), stored), "state"),
        builder.input("chosen", TensorType((rows,), DType.INT32)),
    )
    if is_rounded:
        scales = TensorType((NUM_ADAPTERS, width), DType.FLOAT32)
        inputs = (*inputs, builder.input("scales", scales, "state"))
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
            size = 1e-4 if name == "scales" else 40 if node.dtype is DType.INT8 else 1
            found[name] = generator.normal(0, size, shape).astype(node.dtype.numpy)
    return found


def unpacked(blocks: Any) -> Any:
    """[N/16, K/p, 16, p] as [K, N]."""
    columns, lines, width, pack = blocks.shape
    return blocks.transpose(1, 3, 0, 2).reshape(lines * pack, columns * width)


def expected(given: dict[str, Any], columns: tuple[int, ...]) -> Any:
    """Row by row with whole matrices [N, r] and [r, K]."""
    rows = []
    for row, adapter in zip(given["x"], given["chosen"], strict=True):
        if adapter == NONE:
            rows.append(np.zeros(sum(columns), np.float32))
            continue
        down, up = (
            unpacked(np.split(given[half], NUM_ADAPTERS)[adapter]).astype(np.float32)
            for half in ("down", "up")
        )
        scale = given["scales"][adapter] if "scales" in given else np.float32(1)
        narrow, start, parts = row @ down * scale, 0, []
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


@pytest.mark.parametrize("is_rounded", [False, True])
@pytest.mark.parametrize("chosen", CHOSEN)
def test_each_row_gets_the_change_of_its_adapter(chosen: list[int], is_rounded: bool) -> None:
    graph = low_rank_graph(DType.FLOAT32, is_rounded=is_rounded)
    given = arrays(graph, chosen)
    found = run_graph(graph, given)["out"]
    np.testing.assert_allclose(found, expected(given, COLUMNS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize(
    ("dtype", "is_rounded"),
    [(DType.FLOAT32, False), (DType.BFLOAT16, False), (DType.BFLOAT16, True)],
)
def test_the_kernel_means_the_same(dtype: DType, is_rounded: bool, chosen: list[int]) -> None:
    graph = low_rank_graph(dtype, is_rounded=is_rounded)
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
