import pytest
import torch

from banyan.compiler.capture import torch_operations

SLOTS = [3 * 16 + offset for offset in range(16)] + [16 + offset for offset in range(4)]


def written_caches(
    keys: torch.Tensor, values: torch.Tensor, pack: int
) -> tuple[torch.Tensor, torch.Tensor]:
    heads, size = keys.shape[1:]
    key_cache = torch.zeros(6, heads, size // pack, 16, pack, dtype=keys.dtype)
    value_cache = torch.zeros(6, heads, 16 // pack, size, pack, dtype=keys.dtype)
    slots = torch.tensor(SLOTS)
    return (
        torch_operations.cache_write_keys(key_cache, keys, slots),
        torch_operations.cache_write_values(value_cache, values, slots),
    )


def int32(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


@pytest.mark.parametrize(("dtype", "pack"), [(torch.float32, 1), (torch.bfloat16, 2)])
def test_paged_attention_over_written_caches_is_causal_attention(
    dtype: torch.dtype, pack: int
) -> None:
    torch.manual_seed(0)
    keys, values = torch.randn(2, 20, 2, 8).to(dtype)
    queries = torch.randn(20, 4, 8).to(dtype)
    key_cache, value_cache = written_caches(keys, values, pack)

    found = torch_operations.paged_attention(
        queries, key_cache, value_cache, int32(3, 1)[None], int32(0, 20), int32(20), 0.3, 0
    )

    wanted = torch.nn.functional.scaled_dot_product_attention(
        queries.float().transpose(0, 1),
        keys.float().transpose(0, 1).repeat_interleave(2, 0),
        values.float().transpose(0, 1).repeat_interleave(2, 0),
        is_causal=True,
        scale=0.3,
    ).transpose(0, 1)
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(found.float(), wanted, atol=tolerance, rtol=0)


def test_a_window_of_one_returns_the_value_of_the_token_itself() -> None:
    keys, values = torch.randn(2, 20, 1, 4)
    key_cache, value_cache = written_caches(keys, values, 1)
    found = torch_operations.paged_attention(
        keys, key_cache, value_cache, int32(3, 1)[None], int32(0, 20), int32(20), 1.0, 1
    )
    torch.testing.assert_close(found, values)


def test_a_negative_slot_writes_nothing() -> None:
    cache = torch.zeros(2, 1, 4, 16, 1)
    rows = torch.ones(2, 1, 4)
    written = torch_operations.cache_write_keys(cache, rows, torch.tensor([-1, 17]))
    assert written[1, 0, :, 1, 0].tolist() == [1.0] * 4
    assert written.sum() == 4
    assert cache.sum() == 0


def test_grouped_linear_multiplies_each_row_by_the_weight_of_its_expert() -> None:
    weight = torch.tensor([[[1.0, 0.0]], [[0.0, 10.0]]])
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    found = torch_operations.grouped_linear(x, weight, torch.tensor([1, 0, 1]))
    assert found.tolist() == [[20.0], [3.0], [60.0]]


def test_each_operation_has_a_fake_that_agrees_with_the_reference() -> None:
    keys = torch.randn(20, 1, 4)
    key_cache, value_cache = written_caches(keys, keys, 1)
    slots = torch.tensor(SLOTS)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch_operations.cache_write_keys, (key_cache, keys, slots), test_utils=checks
    )
    torch.library.opcheck(
        torch_operations.cache_write_values, (value_cache, keys, slots), test_utils=checks
    )
    torch.library.opcheck(
        torch_operations.paged_attention,
        (keys, key_cache, value_cache, int32(3, 1)[None], int32(0, 20), int32(20), 1.0, 0),
        test_utils=checks,
    )
    torch.library.opcheck(
        torch_operations.grouped_linear,
        (torch.randn(2, 4), torch.randn(3, 5, 4), torch.tensor([2, 0])),
        test_utils=checks,
    )


def test_latent_attention_is_attention_whose_values_begin_its_keys() -> None:
    torch.manual_seed(1)
    rows, queries = torch.randn(20, 1, 12), torch.randn(20, 4, 12)
    cache, values = written_caches(rows, rows, 1)
    where = (int32(3, 1)[None], int32(0, 20), int32(20), 0.3, 0)
    wanted = torch_operations.paged_attention(queries, cache, values, *where)[..., :8]
    found = torch_operations.paged_latent_attention(queries, cache, *where, 8)
    torch.testing.assert_close(found, wanted)
