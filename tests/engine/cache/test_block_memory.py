"""Blocks of a real model's cache, out and in again, in every format it may have."""

import os
from pathlib import Path

import pytest

from banyan.engine.cache.block_memory import ExecutableBlocks
from banyan.engine.options import EngineOptions
from banyan.engine.sampling import SamplingOptions
from banyan.engine.starting.loading import LoadedModel, load_model
from banyan.foundation.settings import load_settings

SEEDLING = Path(__file__).parents[3] / "models" / "seedling"
PROMPT = [(7 * i * i + 3 * i) % 4000 for i in range(200)]


def load(store: Path, kv_cache_dtype: str) -> LoadedModel:
    options = EngineOptions(
        threads=1,
        max_model_len=256,
        num_blocks=40,
        kv_cache_dtype=kv_cache_dtype,
        prefix_store=str(store),
    )
    return load_model(str(SEEDLING), options, settings=load_settings(os.environ))


def answer(model: LoadedModel) -> tuple[list[int], int]:
    options = SamplingOptions(temperature=0.0, max_tokens=12, ignore_eos=True)
    model.engine.add_request("only", PROMPT, options)
    events = []
    while model.engine.has_work():
        events += model.engine.step()
    return [t for event in events for t in event.token_ids], events[0].num_cached_tokens


@pytest.mark.parametrize("kv_cache_dtype", ["auto", pytest.param("int8", marks=pytest.mark.wide)])
def test_the_next_engine_goes_on_from_the_blocks_of_the_one_before(
    tmp_path: Path, kv_cache_dtype: str
) -> None:
    first = load(tmp_path, kv_cache_dtype)
    blocks = ExecutableBlocks(first.executable, 40, size_symbol="num_blocks")
    tokens, num_found = answer(first)
    assert num_found == 0
    content = blocks.read(3)
    blocks.write(39, content)
    assert blocks.read(39) == content
    assert len(content) == blocks.bytes_per_block
    first.close()
    second = load(tmp_path, kv_cache_dtype)
    assert answer(second) == (tokens, 192)
    assert second.engine.statistics().tokens_prefilled == 8
    second.close()
