"""The programs written once in the IR, printed as Triton: no chip has its own copy."""

from pathlib import Path

import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.programs.split_keys import SPLIT
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.targets.triton.chips import Chip
from tests.compiler import quantized_graphs
from tests.compiler.programs.paging import random_caches
from tests.compiler.programs.rounded_caches import ROUNDED_CASES as ROUNDED
from tests.compiler.programs.rounded_caches import (
    RoundedCase,
    check_program,
    given_steps,
    rounded_graph,
)
from tests.compiler.programs.test_grouped_linear import arrays as expert_arrays
from tests.compiler.programs.test_grouped_linear import grouped_graph
from tests.compiler.programs.test_low_rank import CHOSEN, low_rank_graph
from tests.compiler.programs.test_low_rank import arrays as low_rank_arrays
from tests.compiler.programs.test_paged_attention import attention_graph, step
from tests.compiler.programs.test_scatter import scatter_arrays, scatter_graph
from tests.compiler.programs.test_whole_attention import MASKS
from tests.compiler.programs.test_whole_attention import arrays as whole_arrays
from tests.compiler.programs.test_whole_attention import attention_graph as whole_graph
from tests.compiler.targets.triton.running import (
    CHIP,
    SMALL,
    assert_agrees,
    compiled,
    run_on_triton,
)

F32, BF16 = DType.FLOAT32, DType.BFLOAT16


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "dtype", "window"),
    [
        (4, 2, 8, F32, 7),
        (7, 1, 24, BF16, 40),
        pytest.param(4, 2, 8, F32, 0, marks=pytest.mark.wide),
        pytest.param(2, 2, 16, BF16, 0, marks=pytest.mark.wide),
        pytest.param(6, 2, 16, F32, 0, marks=pytest.mark.wide),
    ],
    ids=str,
)
def test_paged_attention_agrees(
    heads: int, kv_heads: int, size: int, dtype: DType, window: int, tmp_path: Path
) -> None:
    graph = attention_graph(heads, kv_heads, size, dtype, window)
    arrays = step([1, 19, 0, 5], [40, 19, 9, 21], heads, kv_heads, dtype, size)
    assert_agrees(graph, arrays, tmp_path)


def test_splits_of_a_long_sequence_agree(tmp_path: Path) -> None:
    graph = attention_graph(4, 2, 8, F32, 0, columns=512)
    arrays = step([1, 3, 1], [SPLIT + 20, 21, 5], 4, 2, F32, num_blocks=140)
    assert_agrees(graph, arrays, tmp_path)


@pytest.mark.parametrize(
    ("causal", "mask", "dtype"),
    [
        (True, 2, F32),
        pytest.param(True, 0, BF16, marks=pytest.mark.wide),
        pytest.param(False, 1, F32, marks=pytest.mark.wide),
        pytest.param(False, 3, F32, marks=pytest.mark.wide),
    ],
)
def test_attention_over_whole_tensors_agrees(
    causal: bool, mask: int, dtype: DType, tmp_path: Path
) -> None:
    graph = whole_graph((16, 24), causal=causal, mask=MASKS[mask], dtype=dtype)
    assert_agrees(graph, whole_arrays(graph, (19, 19), dtype), tmp_path)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("layout", ["keys", "values"])
def test_cache_writes_agree(dtype: DType, layout: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    keys, values = random_caches(generator, 5, 2, 8, dtype)
    cache = keys if layout == "keys" else values
    builder, tokens = Builder(), symbol("tokens", 1, 64)
    inputs = (
        builder.input("cache", TensorType(cache.shape, dtype), "state"),
        builder.input("rows", TensorType((tokens, 2, 8), dtype)),
        builder.input("slots", TensorType((tokens,), DType.INT64)),
    )
    node = builder.add("cache_write", inputs, layout=layout)
    graph = Graph("write", inputs, (Output("cache.new", node, "cache"), Output("new", node)))
    rows = generator.normal(size=(4, 2, 8)).astype(dtype.numpy)
    arrays = {"cache": cache, "rows": rows, "slots": np.array([3, -1, 79, 16])}
    found = run_on_triton(graph, arrays, tmp_path)["new"]
    np.testing.assert_array_equal(found, run_graph(graph, arrays)["new"])


@pytest.mark.parametrize(
    "case", [c if c.window else pytest.param(c, marks=pytest.mark.wide) for c in ROUNDED], ids=str
)
def test_rounded_caches_agree(case: RoundedCase, tmp_path: Path) -> None:
    program = compiled(rounded_graph(case), tmp_path)
    check_program(program, case, given_steps(case))


@pytest.mark.parametrize("chip", [CHIP, SMALL], ids=["whole", "pieces"])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_experts_agree(chip: Chip, dtype: DType, tmp_path: Path) -> None:
    graph = grouped_graph(20, 6, dtype, "weight")
    assert_agrees(graph, expert_arrays(20, 6, dtype), tmp_path, chip)


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_changes_of_adapters_agree(dtype: DType, tmp_path: Path) -> None:
    graph = low_rank_graph(dtype)
    assert_agrees(graph, low_rank_arrays(graph, CHOSEN[-1]), tmp_path)


@pytest.mark.parametrize("case", quantized_graphs.CASES, ids=str)
def test_quantised_linear_layers_agree(case: quantized_graphs.Case, tmp_path: Path) -> None:
    graph = quantized_graphs.linear_graph(case)
    assert_agrees(graph, quantized_graphs.arrays(case), tmp_path)


def test_scattered_rows_agree(tmp_path: Path) -> None:
    graph = scatter_graph()
    assert_agrees(graph, scatter_arrays(graph, 5, 130), tmp_path)
