import math

import torch
from torch import Tensor

from tests.compiler.capture.capturing import assert_agrees, captured

X = torch.tensor([[3.0, 1.0, 2.0, 1.0], [0.5, math.nan, 4.0, -math.inf]])


def test_sorting_agrees_with_pytorch_with_ties_and_nan_in_both_orders() -> None:
    def variants(x: Tensor) -> list[Tensor]:
        return [
            *x.sort(stable=True),
            *x.sort(dim=0, descending=True, stable=True),
            x.argsort(dim=-1, stable=True),
            x.msort(),
        ]

    assert_agrees(variants, X)
    assert_agrees(variants, torch.tensor([[3, 1, 2, 1], [5, 5, -(2**63), 2**63 - 1]]))
    flags = torch.tensor([True, False, True])
    assert_agrees(lambda x, y: [*x.sort(), *y.sort()], flags, torch.tensor(2.0))


def test_a_long_topk_is_a_sort() -> None:
    assert_agrees(lambda x: [*x.topk(70), *x[0].topk(70, largest=False)], torch.randn(2, 100))


def test_a_sort_that_is_too_long_says_so() -> None:
    graph = captured(lambda x: x.sort().values, torch.zeros(20000))
    (extern,) = (node for node in graph.nodes() if node.op == "extern")
    assert str(extern.attr("reason")).startswith("sorting more than 16384 values")


def test_running_products_agree_with_pytorch() -> None:
    assert_agrees(lambda x: [x.cumprod(0), x.cumprod(1)], torch.randn(3, 5))
    assert_agrees(lambda x: x.cumprod(0), torch.tensor([3, -2, 0, 5]))
