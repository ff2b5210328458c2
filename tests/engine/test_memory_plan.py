import pytest

from banyan.engine.memory_plan import MemoryPlan, working_bytes
from banyan.engine.options import EngineOptions
from banyan.foundation.errors import InputError

GB = 10**9


def plan(limit_bytes: int, asked: str | None = None) -> MemoryPlan:
    return MemoryPlan(
        limit_bytes=limit_bytes,
        asked=asked,
        weights_bytes=2 * GB,
        working_bytes=GB // 2,
        process_bytes=GB // 2,
    )


def test_a_limit_somebody_set_is_used_up_and_free_memory_is_not() -> None:
    assert plan(8 * GB, "8GB").cache_bytes == 5 * GB
    assert plan(8 * GB).cache_bytes == 3 * GB
    assert plan(1 * GB).cache_bytes == 0


def test_what_does_not_fit_is_refused_with_every_number() -> None:
    plan(4 * GB).check(GB)
    with pytest.raises(InputError) as caught:
        plan(4 * GB, "4GB").check(GB + 10**7)
    assert str(caught.value) == (
        "the model needs 4.01 GB of memory (2.00 GB for weights, 500.00 MB for arrays of a step, "
        "1.01 GB for KV cache, 500.00 MB for the process), but memory=4GB allows 4.00 GB; allow "
        "more, lower max_model_len or max_num_seqs, or round the weights with quantization"
    )
    with pytest.raises(InputError, match=r"but there are 1\.00 GB; free memory, lower"):
        plan(1 * GB).check(0)


def test_steps_touch_their_share_of_an_arena_that_is_placed_for_the_most_tokens() -> None:
    assert working_bytes(1000, 10, threads=2, token_budget=100, most_tokens=400) == 270
    assert working_bytes(1000, 10, threads=1, token_budget=900, most_tokens=400) == 1010


def test_an_amount_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="memory='plenty' is no amount"):
        EngineOptions(memory="plenty")
