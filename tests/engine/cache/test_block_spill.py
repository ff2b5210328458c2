"""Evicted blocks that come back, through whole engines on the fake model: same tokens, less work.

The fake model's tokens depend on every place it reads, so a block with wrong contents shows.
"""

import logging
from itertools import count
from pathlib import Path

import pytest

from banyan.engine.cache.block_spill import BlockSpill, digest_of
from banyan.engine.cache.block_store import BlockStore, DiskBlockStore, MemoryBlockStore
from banyan.engine.cache.prefix_index import CachedBlock, PrefixIndex
from banyan.engine.engine import Engine
from banyan.engine.fake import FakeBlocks, FakeModel
from banyan.engine.options import EngineLimits
from banyan.engine.request_context import RequestContext
from banyan.engine.requests.cache_key import CacheKey, extend_block_keys
from banyan.engine.sampling import SamplingOptions

LIMITS = EngineLimits(max_model_len=160, max_num_seqs=4, token_budget=64, num_blocks=10)
PROMPT = bytes(range(97, 122)) * 4  # 100 tokens: 6 whole blocks
OTHER = bytes(range(121, 96, -1)) * 5
GREEDY = SamplingOptions(temperature=0.0, max_tokens=8, ignore_eos=True)


def engine_with(store: BlockStore | None, limits: EngineLimits = LIMITS) -> Engine:
    model = FakeModel(limits.num_blocks)
    # Reading takes no time and every step takes some, however busy the machine is.
    spill = None if store is None else BlockSpill(FakeBlocks(model), store, clock=lambda: 0.0)
    return Engine(model, limits, vocab_size=260, spill=spill, clock=map(float, count()).__next__)


def run(
    engine: Engine, prompt: bytes, context: RequestContext | None = None
) -> tuple[list[int], int]:
    """The tokens of a prompt and how many of its own were found."""
    engine.add_request("only", prompt, GREEDY, context or RequestContext())
    events = []
    while engine.has_work():
        events += engine.step()
    return [t for event in events for t in event.token_ids], events[0].num_cached_tokens


def test_a_prompt_pushed_out_by_another_comes_back_from_memory() -> None:
    forgetful, keeping = engine_with(None), engine_with(MemoryBlockStore(10**6))
    for engine, num_found in ((forgetful, 16), (keeping, 96)):
        tokens, _ = run(engine, PROMPT)
        run(engine, OTHER)
        assert run(engine, PROMPT)[0] == tokens
        run(engine, OTHER)
        assert run(engine, PROMPT)[1] >= num_found
    statistics = keeping.statistics()
    assert statistics.blocks_saved > 0
    assert statistics.blocks_loaded > 0
    assert statistics.num_free_blocks == 10
    assert statistics.tokens_prefilled < forgetful.statistics().tokens_prefilled


def test_a_prompt_is_found_by_the_next_engine_on_the_same_disk(tmp_path: Path) -> None:
    def on_disk() -> DiskBlockStore:
        return DiskBlockStore(tmp_path, 10**6, model_key="fake")

    first = engine_with(on_disk())
    tokens, num_found = run(first, PROMPT)
    assert num_found == 0
    first.close()
    second = engine_with(on_disk())
    assert run(second, PROMPT) == (tokens, 96)
    assert second.statistics().tokens_prefilled == 4
    stranger = engine_with(on_disk())
    assert run(stranger, PROMPT, RequestContext(caller="somebody else")) == (tokens, 0)


def test_a_damaged_block_is_computed_again_and_those_before_it_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = engine_with(DiskBlockStore(tmp_path, 10**6, model_key="fake"))
    tokens, _ = run(first, PROMPT)
    third = list(first._residency._index.find(_namespace(), _keys()))[2]
    first.close()
    file = next(tmp_path.rglob(digest_of(third).hex() + ".block"))
    file.write_bytes(file.read_bytes()[:-5] + b"wrong")
    second = engine_with(DiskBlockStore(tmp_path, 10**6, model_key="fake"))
    with caplog.at_level(logging.WARNING):
        assert run(second, PROMPT) == (tokens, 32)
    assert "is damaged; it is computed again" in caplog.text
    assert second.statistics().num_free_blocks == 10


def test_a_sequence_that_gave_way_gets_its_blocks_back_instead_of_computing_them() -> None:
    def prefilled(store: BlockStore | None) -> tuple[int, dict[str, list[int]]]:
        limits = EngineLimits(max_model_len=160, max_num_seqs=4, token_budget=64, num_blocks=11)
        engine = engine_with(store, limits)
        options = SamplingOptions(temperature=0.0, max_tokens=70, ignore_eos=True)
        for prompt in (PROMPT[:40], OTHER[:40], PROMPT[5:45]):
            engine.add_request(prompt.decode(), prompt, options)
        tokens: dict[str, list[int]] = {}
        while engine.has_work():
            for event in engine.step():
                tokens.setdefault(event.request_id, []).extend(event.token_ids)
        assert engine.statistics().preemptions > 0
        return engine.statistics().tokens_prefilled, tokens

    without, expected = prefilled(None)
    with_store, tokens = prefilled(MemoryBlockStore(10**6))
    assert tokens == expected
    assert with_store < without


def test_nothing_is_kept_or_read_when_computing_is_faster() -> None:
    model, store = FakeModel(4), MemoryBlockStore(10**6)
    clock = iter(range(100)).__next__
    spill = BlockSpill(FakeBlocks(model), store, clock=lambda: float(clock()))
    spill.compare_with(lambda start, num_tokens: 0.1 * num_tokens)
    index = PrefixIndex()
    node = index.add("", [], b"k" * 64, 0)
    spill.save(node)  # what reading costs is not known yet
    assert spill.num_saved == 1
    assert spill.load(digest_of(node), 1)  # a second: 1.6 of them would be computing
    assert spill.find("", [], [b"k" * 64]) == [digest_of(node)]
    spill.compare_with(lambda start, num_tokens: 0.01 * num_tokens)
    assert spill.find("", [], [b"k" * 64]) == []
    spill.save(index.add("", [], b"l" * 64, 2))
    assert spill.num_saved == 1


def test_the_name_of_a_block_depends_on_everything_before_it_and_on_who_asks() -> None:
    def name(namespace: str, *keys: bytes) -> bytes:
        index, path = PrefixIndex(), list[CachedBlock]()
        for number, key in enumerate(keys):
            path.append(index.add(namespace, path, key, number))
        return digest_of(path[-1])

    assert name("", b"a", b"b") == name("", b"a", b"b")
    names = {name("", b"a", b"b"), name("", b"b"), name("", b"b", b"b"), name("s", b"a", b"b")}
    assert len(names) == 4


def _namespace() -> object:
    return CacheKey(salt="", caller="", adapter=None)


def _keys() -> list[bytes]:
    keys: list[bytes] = []
    extend_block_keys(keys, list(PROMPT), 6)
    return keys
