"""Kernels compile for chips that are not here, and multiply with their matrix instructions."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.memory import place_memory
from banyan.compiler.targets.triton.chips import CHIPS
from banyan.compiler.targets.triton.target import TritonTarget
from tests.compiler.programs.test_paged_attention import attention_graph
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


@pytest.mark.parametrize(
    "chip", [c if c == "cuda:90" else pytest.param(c, marks=pytest.mark.wide) for c in INSTRUCTION]
)
def test_a_linear_layer_uses_the_matrix_instruction_of_the_chip(chip: str, tmp_path: Path) -> None:
    (counts,) = cross_compiled(linear_graph(), chip, tmp_path).values()
    assert counts[INSTRUCTION[chip]] > 0, counts


@pytest.mark.wide
@pytest.mark.parametrize("chip", INSTRUCTION)
def test_paged_attention_uses_matrix_instructions(chip: str, tmp_path: Path) -> None:
    graph = attention_graph(16, 8, 128, DType.BFLOAT16, 0)
    (counts,) = cross_compiled(graph, chip, tmp_path).values()
    assert sum(counts[name] for name in INSTRUCTION.values()) > 0, counts


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
