"""Everything an engine can do, at once and at random, on the fake model.

Whatever is switched on, an answer is the one its request gets alone in a plain engine, every
request ends once, and the engine is as empty afterwards as before.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banyan.engine.cache.block_spill import BlockSpill
from banyan.engine.cache.block_store import MemoryBlockStore
from banyan.engine.engine import Engine
from banyan.engine.events import EngineStatistics, TokenEvent, TokenLogprob
from banyan.engine.fake import FakeBlocks, FakeModel, FakeTokenizer, fake_engine
from banyan.engine.options import EngineLimits, QueuePolicy
from banyan.engine.process.messages import AddRequest
from banyan.engine.process.resumption import Told
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.speculation.prompt_lookup import PromptLookup
from banyan.engine.speculation.speculator import Speculator
from banyan.engine.structure.definition import Structure
from banyan.engine.structure.guidance import StructureCompiler
from banyan.foundation.errors import Overloaded

MAX_MODEL_LEN = 96
MOST_STEPS = 4000

# tokens, text, logprobs, prompt_logprobs, finish_reason, stop_reason
Ended = tuple[
    tuple[int, ...],
    str,
    tuple[TokenLogprob, ...],
    tuple[TokenLogprob, ...] | None,
    str | None,
    int | str | None,
]


@dataclass(frozen=True)
class Wish:
    """One request, after how many steps the next one comes, and who is cancelled then."""

    prompt: bytes
    options: SamplingOptions
    context: RequestContext
    num_steps: int
    cancels: int | None


@dataclass(frozen=True)
class Setting:
    """How an engine is built."""

    num_blocks: int
    max_num_seqs: int
    token_budget: int
    drafts: int
    always_drafts: bool
    shares_prefixes: bool
    spills: bool
    policy: QueuePolicy
    end_after: int | None
    num_in_flight: int


@dataclass
class Clock:
    """Goes a millisecond forward each time it is read."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        self.now += 0.001
        return self.now


@dataclass
class Reader:
    """What came of each request so far."""

    told: dict[str, Told] = field(default_factory=dict)
    events: dict[tuple[str, int], list[TokenEvent]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    num_tokens: int = 0

    def step(self, engine: Engine) -> None:
        """Do one step and check that nobody hears of what has ended."""
        for event in engine.step():
            key = (event.request_id, event.index)
            heard = self.events.setdefault(key, [])
            assert event.request_id not in self.refused, key
            assert not heard or heard[-1].finish_reason is None, key
            heard.append(event)
            self.told[event.request_id].note(event)
            self.num_tokens += len(event.token_ids)
            said = sum(len(one.token_ids) for one in heard)
            assert event.num_generated_tokens == said, key
        for refusal in engine.take_refusals():
            assert refusal.request_id not in self.refused, refusal
            told = self.told[refusal.request_id]
            assert not any(tokens is None or tokens for tokens in told.tokens), refusal
            self.refused.add(refusal.request_id)

    def add(self, engine: Engine, name: str, wish: Wish) -> None:
        """Ask for a request."""
        request = AddRequest(name, tuple(wish.prompt), wish.options, wish.context)
        self.told[name] = Told(request)
        try:
            engine.add_request(name, wish.prompt, wish.options, wish.context)
        except Overloaded:
            self.refused.add(name)

    def move(self, engine: Engine) -> None:
        """Go on in another engine with all that is not ended."""
        for name, told in self.told.items():
            if name in self.refused or not told.num_unfinished:
                continue
            again = told.resumed()
            engine.add_request(
                name, again.prompt_token_ids, again.options, again.context, again.told
            )

    def answer(self, name: str, index: int) -> Ended:
        """All that was said of an answer."""
        events = self.events[name, index]
        scores = [event.prompt_logprobs for event in events if event.prompt_logprobs is not None]
        assert len(scores) <= 1
        return (
            tuple(token_id for event in events for token_id in event.token_ids),
            "".join(event.text for event in events),
            tuple(entry for event in events for entry in event.logprobs or ()),
            scores[0] if scores else None,
            events[-1].finish_reason,
            events[-1].stop_reason,
        )


def compiler() -> StructureCompiler:
    tokenizer = FakeTokenizer()
    return StructureCompiler(
        tokenizer.to_json,
        vocab_size=tokenizer.vocab_size,
        end_token_ids=(tokenizer.end_token_id,),
    )


shared_compiler = cache(compiler)


def engine_of(setting: Setting, structures: StructureCompiler) -> Engine:
    model = FakeModel(
        setting.num_blocks, end_after=setting.end_after, num_in_flight=setting.num_in_flight
    )
    clock = Clock()
    speculator, spill = None, None
    if setting.spills:
        # A clock that stands still: bringing a block back is always worth it.
        spill = BlockSpill(FakeBlocks(model), MemoryBlockStore(6000), clock=lambda: 0.0)
    if setting.drafts:
        speculator = Speculator(
            PromptLookup(shortest=2, longest=4),
            most=setting.drafts,
            always=setting.always_drafts,
            clock=clock,
        )
    return Engine(
        model,
        EngineLimits(
            max_model_len=MAX_MODEL_LEN,
            max_num_seqs=setting.max_num_seqs,
            token_budget=setting.token_budget,
            num_blocks=setting.num_blocks,
        ),
        vocab_size=FakeTokenizer.vocab_size,
        end_token_ids=(FakeTokenizer.end_token_id,),
        tokenizer=FakeTokenizer(),
        speculator=speculator,
        structures=structures,
        enable_prefix_caching=setting.shares_prefixes,
        spill=spill,
        policy=setting.policy,
        clock=clock,
    )


def drain(engine: Engine, step: Callable[[Engine], None]) -> None:
    for _ in range(MOST_STEPS):
        if not engine.has_work():
            return
        step(engine)
    raise AssertionError("the engine did not come to an end")


def alone(wish: Wish, end_after: int | None) -> Reader:
    """What a request gets in an engine with nothing switched on and nobody beside it."""
    engine = fake_engine(
        max_model_len=MAX_MODEL_LEN, end_after=end_after, enable_prefix_caching=False
    )
    engine._structuring._compiler = shared_compiler()
    reader = Reader()
    reader.add(engine, "alone", Wish(wish.prompt, wish.options, RequestContext(), 0, None))
    drain(engine, reader.step)
    engine.close()
    return reader


def check_empty(engine: Engine, setting: Setting) -> EngineStatistics:
    statistics = engine.statistics()
    assert statistics.num_free_blocks == statistics.num_blocks == setting.num_blocks
    assert statistics.num_running == statistics.num_waiting == 0
    assert statistics.tokens_accepted <= statistics.tokens_drafted
    assert statistics.prefix_cache_hits <= statistics.prefix_cache_queries
    residency, reception = engine._residency, engine._reception
    assert sorted(residency.table._free) == list(range(setting.max_num_seqs))
    assert sorted([*residency._pool._free, *residency._index._by_block]) == list(
        range(setting.num_blocks)
    )
    assert not any(residency._pool._num_holders)
    assert residency._num_resident == 0
    left = [
        engine._answers,
        engine._seats.running,
        engine._seats._left,
        reception._joined,
        reception.line._classes,
    ]
    assert not any(left)
    assert reception.fair_share.num_active == 0
    speculator = engine._speculator
    assert speculator is None or not (speculator._records or speculator._proposer._texts)  # type: ignore[attr-defined]
    return statistics


def check(setting: Setting, wishes: list[Wish], dies_at: int | None, *, compiles: bool) -> None:
    structures = compiler() if compiles else shared_compiler()
    engine, reader = engine_of(setting, structures), Reader()
    cancelled: set[str] = set()
    num_moved = 0
    for number, wish in enumerate(wishes):
        reader.add(engine, str(number), wish)
        for _ in range(wish.num_steps):
            reader.step(engine)
        if wish.cancels is not None:
            cancelled.add(str(wish.cancels))
            engine.cancel(str(wish.cancels))
        if number == dies_at:
            reader.step(engine)
            num_moved = reader.num_tokens
            assert engine.statistics().tokens_generated == num_moved
            engine = engine_of(setting, structures)
            reader.move(engine)
    drain(engine, reader.step)
    statistics = check_empty(engine, setting)
    assert statistics.tokens_generated == reader.num_tokens - num_moved
    engine.close()
    for number, wish in enumerate(wishes):
        check_answers(reader, str(number), wish, setting, was_cancelled=str(number) in cancelled)


def check_answers(
    reader: Reader, name: str, wish: Wish, setting: Setting, *, was_cancelled: bool
) -> None:
    expected = alone(wish, setting.end_after)
    for index in range(wish.options.n):
        if name in reader.refused and (name, index) not in reader.events:
            continue
        found, wanted = reader.answer(name, index), expected.answer("alone", index)
        if found[4] in (None, "cancelled"):
            assert was_cancelled or name in reader.refused, (name, index)
            num_said = len(found[0])
            assert found[0] == wanted[0][:num_said]
            assert found[2] == wanted[2][:num_said]
            if found[4] is None:
                assert wanted[1].startswith(found[1])
        else:
            assert found == wanted, (name, index)


STRUCTURES = (
    Structure.regex("[a-c]{2,6}x?"),
    Structure.choice(["abcabcabc", "abd", "zz"]),
    Structure.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}}),
    Structure.grammar('start: "ab"+ "c"'),
)


@st.composite
def options(draw: st.DrawFn) -> SamplingOptions:
    """Options that make answers differ, stop and repeat themselves."""
    max_tokens = draw(st.integers(1, 24))
    chosen: dict[str, object] = {}
    for name, values in (
        ("top_k", (0, 1, 5)),
        ("top_p", (1.0, 0.7)),
        ("min_p", (0.0, 0.3)),
        ("repetition_penalty", (1.0, 1.3)),
        ("frequency_penalty", (0.0, 0.7)),
        ("presence_penalty", (0.0, -0.9)),
        ("logprobs", (None, 0, 2)),
        ("prompt_logprobs", (None, None, 2)),
        ("stop", ((), ("a",), ("bc", "xy", "ef"))),
        ("stop_token_ids", ((), (100, 101))),
        ("logit_bias", (None, None, {97: 9.0, 98: 8.5}, {256: 3.0})),
        ("bad_token_sequences", ((), ((97, 97, 97), (98,)))),
        ("ignore_eos", (False, True)),
        ("include_stop_str_in_output", (False, True)),
        ("skip_special_tokens", (True, False)),
    ):
        # Each is mostly left out: all at once hide each other.
        if draw(st.integers(0, 3)) == 0:
            chosen[name] = draw(st.sampled_from(values))
    return SamplingOptions(
        max_tokens=max_tokens,
        min_tokens=draw(st.sampled_from((0, 0, min(5, max_tokens)))),
        temperature=draw(st.sampled_from((0.0, 0.9))),
        seed=draw(st.integers(0, 2)),
        n=draw(st.sampled_from((1, 1, 2, 3))),
        structure=draw(st.sampled_from((None, None, *STRUCTURES))),
        **chosen,  # type: ignore[arg-type]
    )


contexts = st.builds(
    RequestContext,
    priority=st.integers(0, 2),
    deadline_seconds=st.sampled_from((None, None, None, 0.03)),
    caller=st.sampled_from(("", "", "b")),
    cache_salt=st.sampled_from(("", "", "", "s")),
)
prompts = st.lists(
    st.sampled_from((bytes(range(97, 113)), b"a" * 16, b"ab" * 9, b"xyz")), min_size=1, max_size=4
).map(b"".join)
wishes = st.builds(
    Wish,
    prompt=prompts,
    options=options(),
    context=contexts,
    num_steps=st.integers(0, 6),
    cancels=st.none() | st.none() | st.integers(0, 7),
)
policies = st.builds(
    QueuePolicy,
    max_waiting_requests=st.sampled_from((None, None, 3)),
    max_waiting_tokens=st.sampled_from((None, None, 120)),
    first_token_goal_seconds=st.sampled_from((None, None, 0.1)),
    latency_goal_seconds=st.sampled_from((None, 0.002)),
)
engine_settings = st.builds(
    Setting,
    num_blocks=st.integers(6, 12),
    max_num_seqs=st.integers(1, 5),
    token_budget=st.integers(5, 48),
    drafts=st.sampled_from((0, 1, 4)),
    always_drafts=st.booleans(),
    shares_prefixes=st.sampled_from((True, True, False)),
    spills=st.booleans(),
    policy=policies,
    end_after=st.sampled_from((None, 30, 60)),
    num_in_flight=st.sampled_from((1, 1, 2, 3)),
)
mixes = given(
    engine_settings,
    st.lists(wishes, min_size=1, max_size=8),
    st.none() | st.integers(0, 7),
    st.sampled_from((False, False, False, True)),
)
lenient = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(lenient, max_examples=120)
@mixes
def test_any_mix_of_everything_gives_each_what_it_gets_alone(
    setting: Setting, wishes: list[Wish], dies_at: int | None, compiles: bool
) -> None:
    check(setting, wishes, dies_at, compiles=compiles)


@pytest.mark.wide
@settings(lenient, max_examples=int(os.environ.get("BANYAN_MIXES", "3000")))
@mixes
def test_thousands_of_mixes_of_everything(
    setting: Setting, wishes: list[Wish], dies_at: int | None, compiles: bool
) -> None:
    check(setting, wishes, dies_at, compiles=compiles)
