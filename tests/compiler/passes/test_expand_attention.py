from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from banyan.compiler.ir.graph import Builder, Graph, Output
from banyan.compiler.ir.symbols import Dim, symbol
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.passes.expand_attention import expand_attention
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.interpreter.run import run_graph
from banyan.foundation.errors import GraphError
from tests.compiler.comparing import assert_same_results

LENGTH = symbol("length", 1, 64)


def attention_graph(*, causal: bool, mask: DType | None) -> Graph:
    builder = Builder()
    query = TensorType((3, 1, LENGTH, 8), DType.FLOAT32)
    inputs = [builder.input(name, query) for name in ("q", "k", "v")]
    if mask is not None:
        inputs.append(builder.input("mask", TensorType((3, 1, LENGTH, LENGTH), mask)))
    whole = builder.add("attention_forward", inputs, causal=causal, scale=0.3)
    node = builder.add("get", (whole,), index=0)
    return Graph("attention", tuple(inputs), (Output("out", node),))


def arrays(mask: DType | None) -> dict[str, Any]:
    generator = np.random.default_rng(4)
    found: dict[str, Any] = {}
    found |= {
        name: generator.normal(size=(3, 1, 5, 8)).astype(np.float32) for name in ("q", "k", "v")
    }
    if mask is DType.BOOL:
        found["mask"] = generator.random((3, 1, 5, 5)) > 0.4
        found["mask"][0, 0, 2] = False
    elif mask is not None:
        found["mask"] = generator.normal(size=(3, 1, 5, 5)).astype(np.float32)
    return found


@pytest.mark.parametrize("mask", [None, DType.BOOL, DType.FLOAT32])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_written_out_gives_the_same_numbers(mask: DType | None, causal: bool) -> None:
    graph = attention_graph(causal=causal, mask=mask)
    expanded = expand_attention(graph)
    assert "attention_forward" not in operations_used(expanded)
    assert_same_results(graph, expanded, arrays(mask))


def test_all_of_it_is_one_kernel() -> None:
    graph = attention_graph(causal=True, mask=DType.BOOL)
    lowered = lower(graph)
    assert operations_used(lowered)["call"] == 1
    assert_same_results(graph, lowered, arrays(DType.BOOL))


def graph_of_heads(
    query: tuple[Dim, ...], key: tuple[Dim, ...], size: int, causal: bool, mask: Any
) -> Graph:
    """Forward and backward in one graph; `size` is that of a value."""
    builder = Builder()
    output = (*query[:3], size)
    shapes = {"q": query, "k": key, "v": (*key[:3], size), "do": output}
    inputs = {n: builder.input(n, TensorType(s, DType.FLOAT32)) for n, s in shapes.items()}
    parts = [inputs[name] for name in ("q", "k", "v")]
    masks = []
    if mask is not None:
        kind = DType.BOOL if mask.dtype == bool else DType.FLOAT32
        masks = [builder.input("mask", TensorType(mask.shape, kind))]
    attrs: dict[str, Any] = {"causal": causal, "scale": 0.3}
    forward = builder.add("attention_forward", (*parts, *masks), **attrs)
    both = [builder.add("get", (forward,), index=i) for i in range(2)]
    backward = builder.add("attention_backward", (inputs["do"], *parts, *both, *masks), **attrs)
    changes = [builder.add("get", (backward,), index=i) for i in range(3)]
    names = ("o", "lse", "dq", "dk", "dv")
    outputs = tuple(Output(n, x) for n, x in zip(names, (*both, *changes), strict=True))
    return Graph("attention", (*inputs.values(), *masks), outputs)


def by_torch(given: dict[str, Any], causal: bool) -> dict[str, Any]:
    """The same with autograd, in float64."""
    tensors = {n: torch.tensor(x) for n, x in given.items()}
    q, k, v = (tensors[n].double().requires_grad_() for n in ("q", "k", "v"))
    repeats = q.shape[1] // k.shape[1]
    wide = [x.repeat_interleave(repeats, 1) for x in (k, v)]
    scores = q @ wide[0].mT * 0.3
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~seen, float("-inf"))
    if "mask" in tensors:
        mask = tensors["mask"]
        boolean = mask.dtype is torch.bool
        scores = scores.masked_fill(~mask, float("-inf")) if boolean else scores + mask
    output = scores.softmax(-1).nan_to_num(0.0) @ wide[1]
    changes = torch.autograd.grad(output, (q, k, v), tensors["do"].double())
    found = [output, scores.logsumexp(-1), *changes]
    return {
        n: x.detach().numpy() for n, x in zip(("o", "lse", "dq", "dk", "dv"), found, strict=True)
    }


def given_arrays(
    query: tuple[int, ...], key: tuple[int, ...], size: int, mask: Any = None
) -> dict[str, Any]:
    generator = np.random.default_rng(8)
    shapes = {"q": query, "k": key, "v": (*key[:3], size), "do": (*query[:3], size)}
    found = {n: generator.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    return found if mask is None else {**found, "mask": mask}


def assert_means_attention(graph: Graph, arrays: dict[str, Any], causal: bool) -> None:
    wanted = by_torch(arrays, causal)
    expanded = expand_attention(graph)
    assert not {"attention_forward", "attention_backward"} & set(operations_used(expanded))
    for version in (graph, expanded, lower(graph)):
        found = run_graph(version, arrays)
        for name, value in wanted.items():
            assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


SOME = np.random.default_rng(2).random((2, 1, 5, 7)) > 0.3
ADDED = np.random.default_rng(3).normal(size=(1, 4, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mask", [None, SOME, ADDED], ids=["plain", "bool", "added"])
def test_forward_and_backward_are_those_of_torch(causal: bool, groups: int, mask: Any) -> None:
    query, key = (2, 4, 5, 3), (2, groups, 7, 3)
    graph = graph_of_heads(query, key, 6, causal, mask)
    assert_means_attention(graph, given_arrays(query, key, 6, mask), causal)


def test_one_graph_of_grouped_heads_serves_every_length() -> None:
    graph = graph_of_heads((2, 4, LENGTH, 3), (2, 2, LENGTH, 3), 3, True, None)
    for length in (1, 2, 9):
        arrays = given_arrays((2, 4, length, 3), (2, 2, length, 3), 3)
        assert_means_attention(graph, arrays, True)


def test_queries_that_see_nothing_get_zeros_and_give_zeros() -> None:
    mask = np.ones((1, 1, 5, 7), bool)
    mask[..., 2, :] = False
    query, key = (1, 2, 5, 3), (1, 1, 7, 3)
    graph = expand_attention(graph_of_heads(query, key, 3, False, mask))
    found = run_graph(graph, given_arrays(query, key, 3, mask))
    assert np.all(np.isneginf(found["lse"][:, :, 2]))
    for name in ("o", "dq"):
        assert np.all(found[name][:, :, 2] == 0)
    assert all(np.all(np.isfinite(found[name])) for name in ("o", "dq", "dk", "dv"))


def test_heads_that_are_no_whole_groups_are_refused() -> None:
    with pytest.raises(GraphError, match="whole groups"):
        graph_of_heads((1, 3, 5, 4), (1, 2, 5, 4), 4, False, None)
    with pytest.raises(GraphError, match="the mask is bool or float32"):
        graph_of_heads((1, 2, 5, 4), (1, 2, 5, 4), 4, False, np.ones((1, 1, 4, 5), bool))
