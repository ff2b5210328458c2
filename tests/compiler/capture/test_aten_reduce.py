import warnings

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.compiler.capture.capturing import assert_agrees, captured, interpreted, operations

torch.manual_seed(3)
X = torch.randn(2, 3, 4)
WEIGHT, BIAS = torch.randn(4), torch.randn(4)


def reduced(x: Tensor) -> list[Tensor]:
    return [
        x.sum(), x.sum(1), x.sum((0, 2)), x.sum(-1, keepdim=True), x.mean(), x.mean((1, 2)),
        x.mean(-1, keepdim=True), x.var(-1), x.var((0, 1), unbiased=False), x.std(-1), x.amax(-1),
        x.amin((0, 1)), x.max(), x.min(), *x.max(1), *x.min(-1, keepdim=True), x.argmax(-1),
        x.argmin(1), x.argmax(), (x > 0).any(), (x > 0).any(-1), (x > 0).all(0), x.prod(-1),
        x.cumsum(-1), x.cumsum(0), x.norm(dim=-1), x.logsumexp(-1),
        torch.linalg.vector_norm(x, ord=1),
    ]  # fmt: skip


def normalised(x: Tensor) -> list[Tensor]:
    weight, bias = WEIGHT.to(x.dtype), BIAS.to(x.dtype)
    return [
        x.softmax(-1), x.softmax(0), x.log_softmax(-1), functional.layer_norm(x, (4,)),
        functional.layer_norm(x, (4,), weight, bias, 1e-3), functional.layer_norm(x, (3, 4)),
        functional.rms_norm(x, (4,), weight, 1e-5), functional.rms_norm(x, (4,)),
        functional.normalize(x, dim=-1), x.softmax(-1, dtype=torch.float32),
    ]  # fmt: skip


def indexed(x: Tensor) -> list[Tensor]:
    rows = torch.tensor([1, 0, 1])
    return [
        x[rows], x[:, rows], x[rows, rows], x[:, torch.tensor([[0, 2], [1, -1]])],
        x.index_select(2, rows), functional.embedding(rows, x[0]),
        x.gather(-1, rows.expand(2, 3, 3)),
        x.gather(1, rows.expand(2, 1, 3)), torch.take_along_dim(x, x.argmax(-1, keepdim=True), -1),
        *x.topk(2), *x.topk(2, largest=False), *x.topk(1, dim=1),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reductions_agree_with_pytorch(dtype: torch.dtype) -> None:
    assert_agrees(reduced, X.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_and_softmax_agree_with_pytorch(dtype: torch.dtype) -> None:
    assert_agrees(normalised, X.to(dtype))


def test_indexing_agrees_with_pytorch() -> None:
    assert_agrees(indexed, X)


def test_sums_of_integers_are_64_bit() -> None:
    assert_agrees(
        lambda x: [x.sum(), x.sum(0), x.cumsum(0), x.prod(0)], torch.tensor([[3, 4], [5, 6]]).int()
    )


def test_the_largest_of_integers_is_found() -> None:
    assert_agrees(lambda x: [*x.topk(2), x.amax(0)], torch.tensor([3, -9, 7, 7]))


def test_a_norm_is_captured_whole_without_leaving_pytorch_calls() -> None:
    graph = captured(lambda x: functional.rms_norm(x, (4,)), X)
    assert "extern" not in operations(graph)
    assert "rsqrt" in operations(graph)


def test_indices_with_a_gap_between_them_come_first_in_the_result() -> None:
    rows = torch.tensor([1, 0])
    assert_agrees(lambda x: x[rows, :, rows], X)


def test_the_place_of_the_smallest_is_found_in_every_type() -> None:
    lowest = torch.tensor([[3, -(2**63), 5]])
    assert_agrees(lambda x: [*x.min(1), x.argmin(1), *x.topk(2, largest=False)], lowest)
    small = torch.tensor([[200, 3, 0], [255, 4, 250]], dtype=torch.uint8)
    assert_agrees(lambda x: [*x.min(1), x.argmin(1), x.argmin(0)], small)


def test_the_largest_of_rows_with_nan_is_nan() -> None:
    x = torch.tensor([[1.0, float("nan"), 3.0], [float("nan"), 0.0, -1.0], [2.0, 5.0, 5.0]])
    assert_agrees(
        lambda x: [x.amax(1), x.amin(0), x.max(), *x.max(1), *x.min(0), x.argmax(), x.argmin(1)], x
    )


def test_topk_gives_distinct_places_when_most_are_masked() -> None:
    masked = torch.tensor([[-torch.inf, 1.0, -torch.inf, -torch.inf]])
    values, places = interpreted(captured(lambda x: list(x.topk(3)), masked), masked)
    assert values.tolist() == [[1.0, -np.inf, -np.inf]]
    assert places.tolist() == [[1, 0, 2]]


def test_a_variance_of_too_few_numbers_is_infinite() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_agrees(lambda x: x.var(1, correction=7), torch.tensor([[1.0, 2.0, 4.0]]))


def test_checks_of_values_are_left_to_pytorch() -> None:
    assert_agrees(lambda x: functional.one_hot(x, 5), torch.tensor([0, 4, 2]))


def test_topk_ranks_nan_above_every_number() -> None:
    rows = torch.tensor([[1.0, torch.nan, torch.inf, -torch.inf, 3.0]])
    for count in (1, 3, 5):
        assert_agrees(lambda x, k=count: [*x.topk(k), *x.topk(k, largest=False)], rows)
        assert_agrees(lambda x, k=count: [*x.topk(k), *x.topk(k, largest=False)], rows.half())
