import torch
from torch import Tensor
from torch.nn import functional

from banyan.compiler.capture import torch_operations
from tests.compiler.capture.capturing import assert_agrees, captured, operations

torch.manual_seed(5)
A, B = torch.randn(3, 4), torch.randn(4, 5)
BATCH = torch.randn(2, 3, 4)


def products(a: Tensor, b: Tensor, batch: Tensor) -> list[Tensor]:
    return [
        a @ b, torch.mm(a, b), torch.bmm(batch, batch.mT), batch @ b, a @ batch.mT, a[0] @ b,
        a @ b[:, 0], a[0] @ b[:, 0], torch.addmm(b[:3], a, b),
        torch.addmm(b[0], a, b, beta=2, alpha=3), functional.linear(batch, b.T),
        functional.linear(batch, b.T, b[0]), functional.linear(a[0], b.T),
        torch.einsum("bij,kj->bik", batch, b.T), torch.baddbmm(batch[:, :, :3], batch, batch.mT),
    ]  # fmt: skip


def test_matrix_products_agree_with_pytorch() -> None:
    assert_agrees(products, A, B, BATCH)


def test_a_linear_layer_in_bfloat16_adds_its_bias_before_rounding() -> None:
    arguments = [x.bfloat16() for x in (A, B.T.contiguous(), torch.randn(5))]
    assert_agrees(functional.linear, *arguments)
    assert operations(captured(functional.linear, *arguments)) == {
        "input", "dot", "cast", "expand", "add",
    }  # fmt: skip


def test_attention_agrees_with_pytorch() -> None:
    queries = torch.randn(2, 4, 3, 8)
    keys, values = torch.randn(2, 2, 2, 5, 8)
    mask = torch.tensor([[True, True, False, True, False]] * 3)

    def variants(q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        attend = functional.scaled_dot_product_attention
        return [
            attend(q, q, q, is_causal=True),
            attend(q, q, q, scale=0.5),
            attend(q, k, v, enable_gqa=True),
            attend(q, k, v, attn_mask=mask, enable_gqa=True),
            attend(q, k, v, attn_mask=mask.float() * 3, enable_gqa=True),
        ]

    assert_agrees(variants, queries, keys, values)
    assert "attention_forward" in operations(captured(variants, queries, keys, values))


def test_our_own_operations_become_single_nodes() -> None:
    cache = torch.zeros(2, 1, 4, 16, 1)
    rows, slots = torch.randn(3, 1, 4), torch.tensor([3, -1, 17])

    def serve(cache: Tensor, rows: Tensor, slots: Tensor) -> list[Tensor]:
        keys = torch_operations.cache_write_keys(cache, rows, slots)
        values = torch_operations.cache_write_values(cache.view(2, 1, 16, 4, 1), rows, slots)
        weight = rows.expand(3, 5, 4)
        return [keys, values, torch_operations.grouped_linear(rows[:, 0], weight, slots.abs() % 3)]

    assert_agrees(serve, cache, rows, slots)
    found = operations(captured(serve, cache, rows, slots))
    assert {"cache_write", "grouped_dot"} <= found
    assert "extern" not in found


def test_a_bias_times_zero_is_not_looked_at() -> None:
    bias, a, b = torch.full((2, 2), torch.nan), torch.randn(2, 3), torch.randn(3, 2)
    assert_agrees(lambda bias, a, b: torch.addmm(bias, a, b, beta=0), bias, a, b)
