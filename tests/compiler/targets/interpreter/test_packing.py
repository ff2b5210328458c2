"""Packed layouts and paged caches mean what their plain forms mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from banyan.compiler.targets.interpreter.arithmetic import (
    dot,
    pack_panels,
    packed_dot,
    unpack_pairs,
    unpack_panels,
)
from banyan.compiler.targets.interpreter.sequences import (
    cache_write,
    cached_rows,
    paged_attention,
    softmax,
)


@given(st.integers(1, 40), st.integers(1, 70), st.sampled_from([1, 2]))
def test_unpacking_undoes_packing_and_pads_with_zeros(n: int, k: int, width: int) -> None:
    weight = np.random.default_rng(n * 100 + k).standard_normal((n, k)).astype(np.float32)
    panels = pack_panels(weight, width)
    assert panels.shape == (-(-n // 16), -(-k // 32) * 32 // width, 16, width)
    plain = unpack_panels(panels)
    np.testing.assert_array_equal(plain[:k, :n], weight.T)
    assert not plain[k:].any()
    assert not plain[:, n:].any()


def test_a_product_with_panels_is_the_product_with_the_weight() -> None:
    random = np.random.default_rng(1)
    x, weight = random.standard_normal((3, 40)), random.standard_normal((21, 40))
    result = packed_dot((x, pack_panels(weight, 2)), {"columns": 21})
    np.testing.assert_allclose(result, x @ weight.T)


def test_pairs_unpack_along_the_contracted_dim() -> None:
    b = np.arange(12).reshape(4, 3)
    packed = np.stack([b[0::2], b[1::2]], axis=-1)
    np.testing.assert_array_equal(unpack_pairs(packed), b)
    a = np.ones((2, 4))
    np.testing.assert_array_equal(dot((a, packed), {"packed": True}), a @ b)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("layout", ["keys", "values"])
def test_rows_written_to_a_cache_are_read_back_through_the_block_table(
    layout: str, width: int
) -> None:
    heads, size = 2, 4
    shape = (
        (5, heads, size // width, 16, width)
        if layout == "keys"
        else (5, heads, 16 // width, size, width)
    )
    rows = np.random.default_rng(2).standard_normal((20, heads, size)).astype(np.float32)
    table = np.asarray([3, 1])
    slots = np.asarray([table[i // 16] * 16 + i % 16 for i in range(20)])
    cache = cache_write((np.zeros(shape, np.float32), rows, slots), {"layout": layout})
    np.testing.assert_array_equal(cached_rows(cache, table, 20, layout), rows)
    assert not cache[[0, 2, 4]].any()


def test_a_negative_slot_writes_nothing() -> None:
    cache = np.zeros((2, 1, 4, 16, 1), np.float32)
    rows = np.ones((1, 1, 4), np.float32)
    assert not cache_write((cache, rows, np.asarray([-1])), {"layout": "keys"}).any()


@pytest.mark.parametrize("window", [0, 3])
def test_paged_attention_sees_its_past_and_its_window_only(window: int) -> None:
    random = np.random.default_rng(5)
    length, new, size = 9, 4, 4
    k, v = (random.standard_normal((length, 1, size)).astype(np.float32) for _ in "kv")
    q = random.standard_normal((new, 2, size)).astype(np.float32)
    slots = np.arange(length)
    keys = cache_write((np.zeros((1, 1, size, 16, 1), np.float32), k, slots), {"layout": "keys"})
    values = cache_write(
        (np.zeros((1, 1, 16, size, 1), np.float32), v, slots), {"layout": "values"}
    )
    tables, starts, lengths = np.asarray([[0]]), np.asarray([0, new]), np.asarray([length])
    attrs = {"scale": 0.5, "window": window}
    result = paged_attention((q, keys, values, tables, starts, lengths), attrs)
    for token in range(new):
        position = length - new + token
        first = max(0, position - window + 1) if window else 0
        seen = slice(first, position + 1)
        for head in range(2):
            weights = softmax(k[seen, 0] @ q[token, head] * 0.5)
            np.testing.assert_allclose(result[token, head], weights @ v[seen, 0], rtol=1e-5)


def test_a_row_without_any_key_becomes_zeros() -> None:
    assert softmax(np.full((1, 3), -np.inf, np.float32)).tolist() == [[0, 0, 0]]
