from typing import Any

import numpy as np
import pytest

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.passes.expand_attention import expand_attention
from banyan.compiler.passes.pipeline import lower
from tests.compiler.comparing import assert_same_results

LENGTH = symbol("length", 1, 64)


def attention_graph(*, causal: bool, mask: DType | None) -> Graph:
    builder = Builder()
    query = TensorType((3, LENGTH, 8), DType.FLOAT32)
    inputs = [builder.input(name, query) for name in ("q", "k", "v")]
    if mask is not None:
        inputs.append(builder.input("mask", TensorType((3, LENGTH, LENGTH), mask)))
    node = builder.add("attention", inputs, causal=causal, scale=0.3)
    return Graph("attention", tuple(inputs), (Output("out", node),))


def arrays(mask: DType | None) -> dict[str, Any]:
    generator = np.random.default_rng(4)
    found: dict[str, Any] = {}
    found |= {name: generator.normal(size=(3, 5, 8)).astype(np.float32) for name in ("q", "k", "v")}
    if mask is DType.BOOL:
        found["mask"] = generator.random((3, 5, 5)) > 0.4
        found["mask"][0, 2] = False
    elif mask is not None:
        found["mask"] = generator.normal(size=(3, 5, 5)).astype(np.float32)
    return found


@pytest.mark.parametrize("mask", [None, DType.BOOL, DType.FLOAT32])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_written_out_gives_the_same_numbers(mask: DType | None, causal: bool) -> None:
    graph = attention_graph(causal=causal, mask=mask)
    expanded = expand_attention(graph)
    assert "attention" not in operations_used(expanded)
    assert_same_results(graph, expanded, arrays(mask))


def test_all_of_it_is_one_kernel() -> None:
    graph = attention_graph(causal=True, mask=DType.BOOL)
    lowered = lower(graph)
    assert operations_used(lowered)["call"] == 1
    assert_same_results(graph, lowered, arrays(DType.BOOL))
