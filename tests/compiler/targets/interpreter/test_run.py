"""The oracle itself, against PyTorch and against plain NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from banyan.compiler.ir.graph import Builder, Graph, Node, Output
from banyan.compiler.ir.types import DType, TensorType
from banyan.compiler.targets.interpreter import run_graph
from banyan.compiler.tiling.reductions import neutral
from banyan.foundation.errors import GraphError, InputError
from tests.compiler.ir.sample_kernels import TOKENS, norm_graph, row_squares_graph

F, BF16, I64 = DType.FLOAT32, DType.BFLOAT16, DType.INT64
RANDOM = np.random.default_rng(3)


def run_one(op: str, arrays: list[np.ndarray[Any, Any]], **attrs: Any) -> Any:
    """One operation on fixed-size inputs."""
    builder = Builder()
    kinds = {dtype.numpy: dtype for dtype in DType}
    inputs = tuple(
        builder.input(f"x{i}", TensorType(tuple(a.shape), kinds[a.dtype]))
        for i, a in enumerate(arrays)
    )
    graph = Graph("g", inputs, (Output("y", builder.add(op, inputs, **attrs)),))
    return run_graph(graph, {f"x{i}": a for i, a in enumerate(arrays)})["y"]


def matrix(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("neg", torch.neg),
        ("abs", torch.abs),
        ("exp", torch.exp),
        ("tanh", torch.tanh),
        ("erf", torch.erf),
        ("sin", torch.sin),
        ("cos", torch.cos),
        ("sigmoid", torch.sigmoid),
        ("floor", torch.floor),
    ],
)
def test_unary_operations_mean_what_pytorch_means(
    op: str, expected: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    x = 3 * matrix(4, 5)
    np.testing.assert_allclose(
        run_one(op, [x]), expected(torch.from_numpy(x)), rtol=2e-6, atol=1e-6
    )


@pytest.mark.parametrize(
    ("op", "expected"), [("log", torch.log), ("sqrt", torch.sqrt), ("rsqrt", torch.rsqrt)]
)
def test_operations_on_positive_numbers_mean_what_pytorch_means(
    op: str, expected: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    x = np.abs(matrix(4, 5)) + 0.1
    np.testing.assert_allclose(run_one(op, [x]), expected(torch.from_numpy(x)), rtol=1e-6)


def test_binary_operations_follow_numpy() -> None:
    a, b = matrix(3, 4), matrix(3, 4)
    np.testing.assert_array_equal(run_one("sub", [a, b]), a - b)
    np.testing.assert_array_equal(run_one("max", [a, b]), np.maximum(a, b))
    np.testing.assert_array_equal(run_one("lt", [a, b]), a < b)
    np.testing.assert_array_equal(run_one("where", [a < b, a, b]), np.minimum(a, b))


def test_bfloat16_is_rounded_after_each_operation() -> None:
    one = np.asarray([1.0], BF16.numpy)
    small = np.asarray([2.0**-9], BF16.numpy)
    assert run_one("add", [one, small])[0] == one[0]


def test_integer_division_and_remainder_round_down() -> None:
    a, b = np.asarray([-7, 7]), np.asarray([2, 2])
    assert run_one("floordiv", [a, b]).tolist() == [-4, 3]
    assert run_one("mod", [a, b]).tolist() == [1, 1]


def test_shape_operations_follow_numpy() -> None:
    x = matrix(2, 3, 4)
    np.testing.assert_array_equal(run_one("permute", [x], order=(2, 0, 1)), x.transpose(2, 0, 1))
    sliced = run_one("slice", [x], axis=2, start=1, stop=4, step=2)
    np.testing.assert_array_equal(sliced, x[:, :, 1:4:2])
    padded = run_one("pad", [x], axis=1, low=1, high=0, value=7.0)
    assert padded.shape == (2, 4, 4)
    assert (padded[:, 0] == 7).all()
    joined = run_one("concat", [x, x], axis=0)
    np.testing.assert_array_equal(joined, np.concatenate([x, x]))


def test_gather_take_along_and_cumsum_follow_numpy() -> None:
    x, rows = matrix(5, 3), np.asarray([[0, 4], [2, 2]])
    np.testing.assert_array_equal(run_one("gather", [x, rows], axis=0), x[rows])
    index = np.asarray([[0], [2], [1], [0], [2]])
    along = run_one("take_along", [x, index], axis=1)
    np.testing.assert_array_equal(along, np.take_along_axis(x, index, axis=1))
    np.testing.assert_allclose(run_one("cumsum", [x], axis=0), x.cumsum(0), rtol=1e-6)


def test_reductions_drop_their_axes_and_the_first_largest_wins() -> None:
    x = matrix(3, 4, 5)
    np.testing.assert_allclose(
        run_one("reduce", [x], axes=(0, 2), kind="sum"), x.sum((0, 2)), rtol=1e-5
    )
    ties = np.asarray([[1.0, 3.0, 3.0]], np.float32)
    assert run_one("reduce", [ties], axes=(1,), kind="argmax").tolist() == [1]
    assert run_one("reduce", [matrix(0, 17)], axes=(1,), kind="argmax").shape == (0,)


def test_products_sum_in_float32_even_for_bfloat16() -> None:
    a, b = matrix(4, 300).astype(BF16.numpy), matrix(6, 300).astype(BF16.numpy)
    result = run_one("dot", [a, b], transpose_b=True, dtype=F)
    np.testing.assert_allclose(result, a.astype("f4") @ b.astype("f4").T, rtol=1e-6)


def attend(arrays: list[Any], **attrs: Any) -> Any:
    builder = Builder()
    names = ("q", "k", "v", "mask")[: len(arrays)]
    inputs = [
        builder.input(n, TensorType(a.shape, DType.BOOL if a.dtype == bool else F))
        for n, a in zip(names, arrays, strict=True)
    ]
    node = builder.add("attention_forward", inputs, **attrs)
    outputs = (Output("o", builder.add("get", (node,), index=0)),)
    graph = Graph("attention", tuple(inputs), outputs)
    return run_graph(graph, dict(zip(names, arrays, strict=True)))["o"]


@pytest.mark.parametrize("causal", [False, True])
def test_attention_means_what_pytorch_means(causal: bool) -> None:
    q, k, v = matrix(2, 3, 5, 8), matrix(2, 3, 5, 8), matrix(2, 3, 5, 8)
    result = attend([q, k, v], causal=causal, scale=0.3)
    tq, tk, tv = torch.from_numpy(q), torch.from_numpy(k), torch.from_numpy(v)
    expected = torch.nn.functional.scaled_dot_product_attention(
        tq, tk, tv, is_causal=causal, scale=0.3
    )
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_a_mask_keeps_where_true_or_is_added() -> None:
    q, k, v = matrix(1, 1, 2, 4), matrix(1, 1, 3, 4), matrix(1, 1, 3, 4)
    keep = np.asarray([[[[True, True, False], [True, False, False]]]])
    added = np.where(keep, 0, -1e30).astype(np.float32)
    by_flag = attend([q, k, v, keep], causal=False, scale=1.0)
    by_sum = attend([q, k, v, added], causal=False, scale=1.0)
    np.testing.assert_allclose(by_flag, by_sum, atol=1e-6)
    np.testing.assert_allclose(by_flag[0, 0, 1], v[0, 0, 0], atol=1e-6)


def test_group_rows_sorts_stably_and_says_where_groups_start() -> None:
    builder = Builder()
    experts = builder.input("e", TensorType((TOKENS,), I64))
    node = builder.add("group_rows", (experts,), groups=3)
    outputs = tuple(
        Output(name, builder.add("get", (node,), index=i)) for i, name in enumerate(("o", "s"))
    )
    result = run_graph(Graph("g", (experts,), outputs), {"e": np.asarray([2, 0, 2, 0])})
    assert result["o"].tolist() == [1, 3, 0, 2]
    assert result["s"].tolist() == [0, 2, 2, 4]


def test_grouped_dot_uses_the_weight_of_each_rows_expert() -> None:
    x, weight, experts = matrix(3, 4), matrix(2, 5, 4), np.asarray([1, 0, 1])
    result = run_one("grouped_dot", [x, weight, experts], dtype=F)
    expected = np.stack([weight[e] @ row for row, e in zip(x, experts, strict=True)])
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_a_kernel_runs_program_by_program() -> None:
    x = matrix(7, 8)
    result = run_graph(row_squares_graph(), {"x": x})["y"]
    np.testing.assert_allclose(result, (x * x).sum(1), rtol=1e-6)


def test_a_state_is_replaced_and_not_changed_in_place() -> None:
    x, weight, last = matrix(3, 8), matrix(8), matrix(3, 8)
    kept = last.copy()
    result = run_graph(norm_graph(), {"x": x, "norm.weight": weight, "last": last})
    np.testing.assert_array_equal(last, kept)
    np.testing.assert_allclose(result["last"], last + x, rtol=1e-6)


def test_an_input_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(InputError, match="a dim of 8 is 9"):
        run_graph(row_squares_graph(), {"x": matrix(3, 9)})


def extern_graph() -> Graph:
    builder = Builder()
    x = builder.input("x", TensorType((3,), F))
    node = builder.add("extern", (x,), target="aten.flip", static="", types=(x.tensor,))
    return Graph("g", (x,), (Output("y", node),))


def test_an_extern_node_is_handed_to_the_framework() -> None:
    def flip(node: Node, values: tuple[Any, ...]) -> Any:
        assert node.attr("target") == "aten.flip"
        return values[0][::-1]

    x = np.asarray([1, 2, 3], np.float32)
    assert run_graph(extern_graph(), {"x": x}, call_extern=flip)["y"].tolist() == [3, 2, 1]
    with pytest.raises(GraphError, match=r"aten\.flip needs the framework"):
        run_graph(extern_graph(), {"x": x})


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.INT64, DType.UINT8, DType.BOOL])
@pytest.mark.parametrize("kind", ["max", "min"])
def test_the_largest_of_nothing_is_what_kernels_start_from(dtype: DType, kind: str) -> None:
    builder = Builder()
    x = builder.input("x", TensorType((2, 0), dtype))
    graph = Graph("empty", (x,), (Output("y", x.reduce(kind, (1,))),))
    found = run_graph(graph, {"x": np.zeros((2, 0), dtype.numpy)})["y"]
    assert found.tolist() == [dtype.numpy.type(neutral(kind, dtype))] * 2
