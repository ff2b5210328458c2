from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banyan.compiler.compile import CompileOptions, compile_graph
from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.devices.discovery import find_device
from banyan.devices.native import Missing, find_compiler
from banyan.foundation.settings import Settings

BATCH, QUERIES, KEYS = symbol("batch", 1, 4), symbol("queries", 1, 512), symbol("keys", 1, 512)
HEADS, GROUPS = 4, 2
Mask = tuple[DType, tuple[Dim, ...]] | None


def attention_graph(
    sizes: tuple[int, int], *, causal: bool, mask: Mask, dtype: DType = DType.FLOAT32
) -> Graph:
    builder = Builder()
    size, width = sizes
    inputs = [
        builder.input("q", TensorType((BATCH, HEADS, QUERIES, size), dtype)),
        builder.input("k", TensorType((BATCH, GROUPS, KEYS, size), dtype)),
        builder.input("v", TensorType((BATCH, GROUPS, KEYS, width), dtype)),
    ]
    if mask is not None:
        inputs.append(builder.input("mask", TensorType(mask[1], mask[0])))
    node = builder.add("attention_forward", inputs, causal=causal, scale=0.3)
    outputs = [Output(n, builder.add("get", (node,), index=i)) for i, n in enumerate(("o", "lse"))]
    return Graph("attention", tuple(inputs), tuple(outputs))


def arrays(graph: Graph, lengths: tuple[int, int], dtype: DType = DType.FLOAT32) -> dict[str, Any]:
    generator = np.random.default_rng(4)
    number = {"batch": 2, "queries": lengths[0], "keys": lengths[1]}
    found = {}
    for node in graph.inputs:
        shape = tuple(d if isinstance(d, int) else number[str(d)] for d in node.shape)
        found[str(node.attr("name"))] = (
            generator.random(shape) > 0.3
            if node.dtype is DType.BOOL
            else generator.normal(size=shape).astype(node.dtype.numpy)
        )
    if "mask" in found and found["mask"].shape[2] > 1:
        # One query that sees nothing.
        found["mask"][:, :, 1] = False if found["mask"].dtype == bool else -np.inf
    return found


def compare(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float) -> None:
    for name in ("o", "lse"):
        ours, theirs = (np.asarray(r[name], np.float32) for r in (found, wanted))
        np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=tolerance)


MASKS: list[Mask] = [
    None,
    (DType.BOOL, (BATCH, 1, 1, KEYS)),
    (DType.FLOAT32, (1, HEADS, QUERIES, KEYS)),
    (DType.BOOL, (BATCH, HEADS, QUERIES, KEYS)),
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [False, True])
def test_the_program_means_what_the_operation_means(causal: bool, mask: Mask) -> None:
    graph = attention_graph((8, 6), causal=causal, mask=mask)
    lowered = lower(graph)
    assert operations_used(lowered)["call"] == 3
    for lengths in ((5, 5), (150, 70), (3, 200)):
        given = arrays(graph, lengths)
        compare(run_graph(lowered, given), run_graph(graph, given), 1e-5)


@pytest.mark.parametrize(
    ("dtype", "sizes", "mask"),
    [
        (DType.FLOAT32, (64, 64), MASKS[2]),
        pytest.param(DType.BFLOAT16, (24, 16), None, marks=pytest.mark.wide),
        (DType.BFLOAT16, (6, 10), MASKS[1]),
        (DType.FLOAT16, (7, 20), MASKS[2]),
    ],
)
def test_the_machine_agrees(
    dtype: DType, sizes: tuple[int, int], mask: Mask, program_cache: Path
) -> None:
    if isinstance(find_compiler(), Missing):
        pytest.skip("no C++ compiler")
    graph = attention_graph(sizes, causal=mask is None, mask=mask, dtype=dtype)
    device = find_device("cpu", settings=Settings(cache_directory=program_cache), num_threads=2)
    program = compile_graph(
        graph, device=device, options=CompileOptions(program_cache, optimise=False)
    )
    for lengths in ((150, 300), (300, 300), (1, 17)):
        given = arrays(graph, lengths)
        tolerance = 1e-5 if dtype is DType.FLOAT32 else 3e-2
        compare(program.run(given), run_graph(graph, given), tolerance)
    device.close()


def test_short_attention_is_written_out() -> None:
    builder = Builder()
    kind = TensorType((1, 2, 64, 8), DType.FLOAT32)
    inputs = tuple(builder.input(name, kind) for name in "qkv")
    node = builder.add("attention_forward", inputs, causal=True, scale=0.3)
    graph = Graph("short", inputs, (Output("o", builder.add("get", (node,), index=0)),))
    kernels = [str(n.attr("kernel").name) for n in lower(graph).nodes() if n.op == "call"]  # type: ignore[union-attr]
    assert kernels
    assert not any("whole_attention" in name for name in kernels)
