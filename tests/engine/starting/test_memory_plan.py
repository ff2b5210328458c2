import os
from pathlib import Path

import pytest

from banyan.compiler.compiled import CompiledProgram
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation_options import SpeculationOptions
from banyan.engine.starting.loading import load_model
from banyan.engine.starting.memory_plan import MemoryPlan, largest_step
from banyan.foundation.errors import InputError
from banyan.foundation.settings import load_settings

SEEDLING = Path(__file__).parents[3] / "models" / "seedling"
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


def test_a_step_is_as_large_as_the_options_allow_and_no_larger() -> None:
    options = EngineOptions(
        max_num_batched_tokens=32768,
        max_num_seqs=4,
        max_model_len=100,
        speculation=SpeculationOptions(method="ngram", num_speculative_tokens=31),
    )
    assert largest_step(options, longest=4096) == {
        "num_tokens": 32768,
        "num_sequences": 4,
        "num_table_blocks": 7,
        "num_logit_rows": 128,
    }
    few = EngineOptions(max_num_batched_tokens=20, max_num_seqs=64)
    assert list(largest_step(few, longest=160).values()) == [20, 20, 10, 20]


@pytest.mark.parametrize("num_tokens", [300, 32768])
def test_the_arrays_of_a_step_are_what_the_arena_takes(num_tokens: int) -> None:
    options = EngineOptions(
        threads=1, max_model_len=2048, max_num_seqs=16, max_num_batched_tokens=num_tokens
    )
    model = load_model(str(SEEDLING), options, settings=load_settings(os.environ))
    executable = model.executable
    assert isinstance(executable, CompiledProgram)
    planned = executable.step_bytes(largest_step(options, longest=2048))
    engine, prompt = model.engine, [5 + i % 4000 for i in range(2000)]
    for name in range(16):
        engine.add_request(str(name), prompt[name:], SamplingOptions(max_tokens=2))
    while engine.has_work():
        engine.step()
    arena = executable._arena.buffer
    assert arena is not None
    results = 16 * 4096 * 4
    assert arena.num_bytes + results <= planned <= 1.5 * arena.num_bytes + 64 * 4096 * 4
    model.close()


def test_an_amount_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="memory='plenty' is no amount"):
        EngineOptions(memory="plenty")
