"""Kernels compile for chips that are not here, and multiply with their matrix instructions."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.memory import place_memory
from banyan.compiler.targets.triton.chips import CHIPS
from banyan.compiler.targets.triton.target import TritonTarget
from tests.compiler.programs.test_grouped_linear import grouped_graph
from tests.compiler.programs.test_paged_attention import attention_graph as paged_graph
from tests.compiler.programs.test_whole_attention import attention_graph as whole_graph
from tests.compiler.quantized_graphs import Case
from tests.compiler.quantized_graphs import linear_graph as linear_graph_of
from tests.conftest import Checkpoint
from tests.models.test_step_graph import step_graph_of

INSTRUCTION = {
    "cuda:80": "mma.sync",
    "cuda:90": "wgmma.mma_async",
    "cuda:100": "tcgen05.mma",
    "hip:gfx942": "v_mfma",
}


def cross_compiled(graph: Graph, chip: str, directory: Path) -> dict[str, dict[str, int]]:
    row = CHIPS["nvidia" if chip.startswith("cuda") else "amd"]
    target = TritonTarget(row, directory)
    lowered = lower(graph, target.tiling)
    path = target.build(target.emit(lowered, place_memory(lowered)))
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(directory / "triton")
    done = subprocess.run(
        [sys.executable, "-m", "tests.compiler.targets.triton.cross_compile", str(path), chip],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def linear_graph() -> Graph:
    builder, tokens = Builder(), symbol("tokens", 1, 4096)
    kind = DType.BFLOAT16
    inputs = (
        builder.input("x", TensorType((tokens, 512), kind)),
        builder.input("w", TensorType((1024, 512), kind), "weight"),
    )
    product = builder.add("dot", inputs, transpose_b=True, dtype=kind)
    return Graph("linear", inputs, (Output("y", builder.add("sigmoid", (product,))),))


def quantised_graph(layout: str, group: int, rows: int = 1) -> Graph:
    case = Case(layout, group, "plain", DType.BFLOAT16, rows=rows)
    return linear_graph_of(case, (symbol("tokens", 1, 4096),), 1024, 512)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "linear": linear_graph,
    "paged attention": lambda: paged_graph(16, 8, 128, DType.BFLOAT16, 0),
    "whole attention": lambda: whole_graph(
        (128, 128), causal=True, mask=None, dtype=DType.BFLOAT16
    ),
    "experts": lambda: grouped_graph(1024, 512, DType.BFLOAT16, "weight"),
    "int8 linear": lambda: quantised_graph("int8", 512),
    "int4 linear": lambda: quantised_graph("int4", 64),
    "fp8 linear": lambda: quantised_graph("fp8", 128, rows=128),
}
"""Graphs with one product; the instruction of the chip must multiply it."""


PAIRS = [
    (n, c) if (n, c) == ("linear", "cuda:90") else pytest.param(n, c, marks=pytest.mark.wide)
    for n in GRAPHS
    for c in INSTRUCTION
]


@pytest.mark.parametrize(("name", "chip"), PAIRS)
def test_products_use_the_matrix_instruction_of_the_chip(
    name: str, chip: str, tmp_path: Path
) -> None:
    found = cross_compiled(GRAPHS[name](), chip, tmp_path)
    counts = [counts for counts in found.values() if counts["has_product"]]
    assert counts
    assert all(c[INSTRUCTION[chip]] for c in counts), found


@pytest.mark.wide
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chip", INSTRUCTION)
@pytest.mark.parametrize("kind", ["llama", "qwen3", "qwen3_moe"])
def test_every_kernel_of_a_model_compiles(
    kind: str, chip: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    graph = step_graph_of(checkpoint(kind, dtype="bfloat16"), "bfloat16")
    found = cross_compiled(graph, chip, tmp_path)
    products = [counts for counts in found.values() if counts["has_product"]]
    assert products
    for counts in products:
        assert sum(counts[name] for name in INSTRUCTION.values()) > 0, found
