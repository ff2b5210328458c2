"""Memory into limits: small numbers, so that each case can be checked by hand."""

from dataclasses import replace

import pytest

from banyan.compiler.ir.cached import CACHE_FORMATS
from banyan.engine.options import EngineOptions
from banyan.engine.starting.cache_size import CacheShape, choose_cache_format, choose_limits
from banyan.foundation.errors import InputError

# 2 layers * (keys and values) * 1 head * 4 numbers * 2 bytes * 16 tokens = 512 bytes.
SHAPE = CacheShape(num_layers=2, num_kv_heads=1, head_dim=4, form=CACHE_FORMATS["bfloat16"])
PLENTY = 10**12


def test_a_block_holds_the_keys_and_values_of_sixteen_tokens() -> None:
    assert SHAPE.bytes_per_block == 512
    assert replace(SHAPE, bytes_beside=100).bytes_per_block == 612


@pytest.mark.parametrize(
    ("form", "num_bytes"), [("int8", 64 * (4 + 4)), ("fp8", 64 * (4 + 4)), ("int4", 64 * (2 + 8))]
)
def test_rounded_rows_count_with_their_scales(form: str, num_bytes: int) -> None:
    shape = CacheShape(num_layers=2, num_kv_heads=1, head_dim=4, form=CACHE_FORMATS[form])
    assert shape.bytes_per_block == num_bytes


def test_values_that_are_parts_of_keys_take_no_room() -> None:
    shape = CacheShape(
        num_layers=2, num_kv_heads=1, head_dim=4, form=CACHE_FORMATS["bfloat16"], num_kinds=1
    )
    assert 2 * shape.bytes_per_block == SHAPE.bytes_per_block


def test_a_cache_is_kept_as_it_is_computed_unless_asked() -> None:
    assert choose_cache_format("auto", dtype="float32", head_dim=5).name == "float32"
    assert choose_cache_format("int4", dtype="float32", head_dim=6).name == "int4"
    assert choose_cache_format("bfloat16", dtype="bfloat16", head_dim=8).name == "bfloat16"


def test_a_cache_that_a_model_cannot_have_is_refused() -> None:
    with pytest.raises(InputError, match="needs a model that computes in bfloat16, and this one"):
        choose_cache_format("bfloat16", dtype="float32", head_dim=8)
    with pytest.raises(InputError, match="packs 2 numbers, and the heads of this model have 5"):
        choose_cache_format("int8", dtype="bfloat16", head_dim=5)
    with pytest.raises(InputError, match="is not for models with latent attention"):
        choose_cache_format("int8", dtype="bfloat16", head_dim=8, caches_values=False)


def test_with_plenty_of_memory_every_sequence_gets_its_full_length() -> None:
    limits = choose_limits(EngineOptions(max_num_seqs=4), SHAPE, longest=100, cache_bytes=PLENTY)
    assert limits.max_model_len == 100
    assert limits.num_blocks == 4 * 7
    assert limits.token_budget == 1024


def test_with_little_memory_the_blocks_are_fewer() -> None:
    limits = choose_limits(EngineOptions(max_num_seqs=4), SHAPE, longest=100, cache_bytes=512 * 12)
    assert limits.max_model_len == 100
    assert limits.num_blocks == 12


def test_with_very_little_memory_the_context_shrinks_to_what_fits() -> None:
    limits = choose_limits(EngineOptions(), SHAPE, longest=1000, cache_bytes=512 * 12)
    assert limits.max_model_len == 12 * 16
    assert limits.num_blocks == 12


def test_a_context_that_was_asked_for_is_never_shortened_in_silence() -> None:
    with pytest.raises(InputError, match="a context of 320 tokens needs"):
        choose_limits(EngineOptions(max_model_len=320), SHAPE, longest=1000, cache_bytes=512 * 12)


def test_no_memory_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="lower max_model_len or free memory"):
        choose_limits(EngineOptions(), SHAPE, longest=1000, cache_bytes=0)


def test_more_than_the_model_was_made_for_is_refused() -> None:
    with pytest.raises(InputError, match="max_model_len=101 is more than the 100 tokens"):
        choose_limits(EngineOptions(max_model_len=101), SHAPE, longest=100, cache_bytes=PLENTY)


def test_what_is_asked_for_is_taken() -> None:
    options = EngineOptions(
        max_num_seqs=2, max_model_len=32, max_num_batched_tokens=7, num_blocks=9
    )
    limits = choose_limits(options, SHAPE, longest=100, cache_bytes=0)
    assert (limits.max_model_len, limits.token_budget, limits.num_blocks) == (32, 7, 9)


def test_many_sequences_raise_the_token_budget() -> None:
    limits = choose_limits(EngineOptions(max_num_seqs=2000), SHAPE, longest=16, cache_bytes=PLENTY)
    assert limits.token_budget == 2000
