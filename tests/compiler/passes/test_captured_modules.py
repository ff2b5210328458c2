"""Whole modules: captured, lowered, interpreted, and compared with PyTorch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from banyan.compiler.capture.arrays import to_array
from banyan.compiler.ir.graph import Graph
from banyan.compiler.ir.verify import operations_used
from banyan.compiler.passes.pipeline import lower
from banyan.compiler.targets.interpreter.run import run_graph
from tests.compiler.capture.capturing import call_extern, captured
from tests.compiler.comparing import packed


class Encoder(nn.Module):
    """One layer of a text encoder, mean pooling and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.output, self.wide, self.narrow = (
            nn.Linear(32, 32),
            nn.Linear(32, 64),
            nn.Linear(64, 32),
        )
        self.norm = nn.LayerNorm(32)

    def heads(self, layer: nn.Module, x: Tensor) -> Tensor:
        projected: Tensor = layer(x)
        return projected.view(*x.shape[:2], 4, 8).transpose(1, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.table(ids)
        q, k, v = (self.heads(layer, x) for layer in (self.query, self.key, self.value))
        seen = (mask != 0)[:, None, None, :]
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = self.norm(x + self.output(attended.transpose(1, 2).reshape(x.shape)))
        x = self.norm(x + self.narrow(functional.gelu(self.wide(x))))
        weights = mask.unsqueeze(-1).float()
        pooled = (x * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return functional.normalize(pooled, dim=-1)


class WithoutRule(nn.Module):
    """A linear layer around an operation that has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(torch.special.i0(self.first(x).relu()))
        return result


def interpreted(graph: Graph, module: nn.Module, **arguments: Tensor) -> Any:
    given = {**dict(module.named_parameters()), **arguments}
    arrays = packed(graph, {name: to_array(value) for name, value in given.items()})
    (found,) = run_graph(graph, arrays, call_extern=call_extern).values()
    return found


def test_an_encoder_becomes_few_kernels_that_agree_at_every_size() -> None:
    torch.manual_seed(0)
    module = Encoder().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    length = torch.export.Dim("length", min=1, max=512)
    example = torch.ones(3, 7, dtype=torch.int64)
    shape = {0: batch, 1: length}
    lowered = lower(captured(module, example, example, dynamic_shapes=(shape, shape)))
    assert {str(node.attr("kernel").name) for node in lowered.nodes() if node.op == "call"} == {  # type: ignore[union-attr]
        "row_gather_0", "linear_add_0", "row_permute_0", "row_ne_0", "pack_keys_0",
        "pack_values_0", "whole_attention_0", "row_permute_1", "linear_add_1", "row_reduce_0",
        "linear_mul_0", "linear_add_2", "row_reduce_1", "row_permute_2", "row_permute_3",
    }  # fmt: skip
    for rows, columns in ((3, 7), (1, 1), (2, 70)):
        ids = torch.randint(0, 50, (rows, columns))
        mask = torch.ones(rows, columns, dtype=torch.int64)
        mask[-1, columns // 2 + 1 :] = 0
        found = interpreted(lowered, module, ids=ids, mask=mask)
        np.testing.assert_allclose(found, to_array(module(ids, mask)), atol=1e-5)


def test_a_module_with_an_unknown_operation_runs_around_it() -> None:
    torch.manual_seed(0)
    module, x = WithoutRule(), torch.randn(5, 4)
    lowered = lower(captured(module, x))
    assert operations_used(lowered)["extern"] == 1
    found = interpreted(lowered, module, x=x)
    np.testing.assert_allclose(found, to_array(module(x)), atol=1e-5)
