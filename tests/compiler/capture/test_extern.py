from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from banyan.compiler.capture.extern import run_extern
from banyan.compiler.ir.symbols import symbol
from banyan.compiler.report import extern_uses
from banyan.foundation.errors import GraphError
from tests.compiler.capture.capturing import assert_agrees, captured, interpreted

X = torch.tensor([[3.0, 1.0, 2.0], [0.5, -1.0, 4.0]])


class Unusual(torch.nn.Module):
    """Two operations without a rule of ours."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.lgamma(x)
        rows = torch.tensor([1, 0])
        found: torch.Tensor = torch.ops.aten.index_put(y, [rows, None, rows], torch.tensor(2.0))
        return found


def test_an_operation_with_several_results_is_read_with_get() -> None:
    graph = captured(lambda x: list(torch.frexp(x)), X)
    assert [n.op for n in graph.nodes()] == ["input", "extern", "get", "get"]
    fractions, powers = interpreted(graph, X)
    wanted = torch.frexp(X)
    assert fractions.tolist() == wanted.mantissa.tolist()
    assert powers.tolist() == wanted.exponent.tolist()


def test_lists_of_tensors_and_missing_ones_are_put_together_again() -> None:
    rows = torch.tensor([1, 0])

    def changed(x: torch.Tensor) -> Any:
        return torch.ops.aten.index_put(x, [rows, None, rows], torch.tensor(2.0))

    assert_agrees(changed, X[None].repeat(2, 1, 1), externs=["aten.index_put.default"])


def test_an_operation_that_stays_says_why_and_where() -> None:
    first, second = extern_uses(captured(Unusual(), X[None].repeat(2, 1, 1)))
    assert first.reason == "there is no rule for it (test_extern.py:21: y = torch.lgamma(x))"
    assert second.reason.startswith("index_put with gaps between the indexed axes")


def test_bfloat16_passes_through_pytorch_unchanged() -> None:
    array = np.array([2.5, -1.0], ml_dtypes.bfloat16)
    (found,) = run_extern("aten.neg.default", (("tensor", 0),), (array,), {})
    assert found.dtype == ml_dtypes.bfloat16
    assert found.tolist() == [-2.5, 1.0]


def test_sizes_lists_and_types_are_decoded() -> None:
    size = symbol("n", 1, 9)
    static = (
        ("list", (("size", size), ("value", 2))),
        ("value", 7),
        ("keyword", "dtype", ("dtype", "bf16")),
    )
    (found,) = run_extern("aten.full.default", static, (), {"n": 3})
    assert found.shape == (3, 2)
    assert found.dtype == ml_dtypes.bfloat16


def test_an_operation_that_pytorch_lacks_is_named() -> None:
    with pytest.raises(GraphError, match=r"no operation aten.nonsense.default"):
        run_extern("aten.nonsense.default", (), (), {})


def test_a_result_that_is_no_tensor_cannot_be_captured() -> None:
    with pytest.raises(GraphError):
        captured(lambda x: x.sum().item() + x, X)
