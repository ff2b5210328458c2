"""Several steps under way at once: who is in them, and that nothing about the answers changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.compiler.executable import PendingRun
from banyan.engine import steps
from banyan.engine.engine import Engine
from banyan.engine.fake import FakeModel, FakeTokenizer, fake_engine
from banyan.engine.options import EngineLimits
from banyan.engine.request_context import RequestContext
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.scheduler import Step, plan_step
from tests.engine.test_engine import drain, tokens, tokens_alone

LONG = SamplingOptions(temperature=0.0, max_tokens=12, ignore_eos=True)


class Noting(FakeModel):
    """Notes how many sequences each step has, and how many steps are under way."""

    def __init__(self, num_blocks: int, num_in_flight: int) -> None:
        super().__init__(num_blocks, num_in_flight=num_in_flight)
        self.sizes: list[int] = []
        self.most_begun = 0

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        self.sizes.append(len(arguments["context_lengths"]))
        begun = super().begin(arguments)
        self.most_begun = max(self.most_begun, len(self._begun))
        return begun


class Wavering:
    """Goes through depths, four steps each."""

    most = 3

    def __init__(self, depths: list[int]) -> None:
        self._depths = depths
        self._num_steps = 0
        self.most_seen = [0] * len(depths)

    @property
    def current(self) -> int:
        return self._depths[self._place]

    @property
    def _place(self) -> int:
        return self._num_steps // 4 % len(self._depths)

    def note(self, step: Step, *, num_running: int, num_under_way: int, now: float) -> None:
        assert step.slices
        if self._num_steps % 4 == 3:  # those begun before it changed are over
            self.most_seen[self._place] = max(self.most_seen[self._place], num_under_way)
        self._num_steps += 1


def noting_engine(
    num_in_flight: int, *, num_blocks: int = 64, max_num_seqs: int = 8
) -> tuple[Engine, Noting]:
    model = Noting(num_blocks, num_in_flight)
    limits = EngineLimits(
        max_model_len=64, max_num_seqs=max_num_seqs, token_budget=64, num_blocks=num_blocks
    )
    return Engine(
        model, limits, vocab_size=FakeTokenizer.vocab_size, tokenizer=FakeTokenizer()
    ), model


@pytest.mark.parametrize(("num_in_flight", "share"), [(1, 6), (2, 3), (3, 2)])
def test_decoding_is_split_evenly_over_the_steps_under_way(num_in_flight: int, share: int) -> None:
    engine, model = noting_engine(num_in_flight)
    for number in range(6):
        engine.add_request(str(number), b"prompt %d" % number, LONG)
    engine.step()
    for _ in range(3 * num_in_flight):  # prompts, and until the shares are even
        engine.step()
    del model.sizes[:]
    for _ in range(4 * num_in_flight):
        engine.step()
    assert max(model.sizes) == share
    assert sum(model.sizes[:num_in_flight]) == 6
    assert model.most_begun == (0 if num_in_flight == 1 else num_in_flight)


@pytest.mark.parametrize("num_in_flight", [2, 3])
def test_each_gets_what_it_gets_alone(num_in_flight: int) -> None:
    engine = fake_engine(max_num_seqs=4, num_in_flight=num_in_flight)
    prompts = [b"a" * 1, b"b" * 17, b"c" * 100, b"d" * 33, b"e" * 70, b"f" * 16]
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt, LONG)
    events = drain(engine)
    for number, prompt in enumerate(prompts):
        assert tokens(events[str(number), 0]) == tokens_alone(prompt, LONG), prompt
    assert engine.statistics().num_free_blocks == 128


def test_blocks_of_one_cancelled_under_way_are_free_when_its_step_is_over() -> None:
    engine, _ = noting_engine(2)
    for name in ("a", "b"):
        engine.add_request(name, b"prompt " + name.encode(), LONG)
        engine.step()
    engine.step()
    assert engine.statistics().num_running == 2
    under_way = next(iter(engine._seats._under_way))
    name = engine._seats.running[under_way].request.request_id
    engine.cancel(name)
    engine.add_request(name, b"another", LONG)  # the name is free at once
    assert engine.statistics().num_free_blocks == 62
    heard = engine.step()
    assert [(e.request_id, e.finish_reason) for e in heard if e.finish_reason] == [
        (name, "cancelled")
    ]
    events = drain(engine)
    assert tokens(events[name, 0]) == tokens_alone(b"another", LONG)
    assert engine.statistics().num_free_blocks == 64


def test_a_seat_is_taken_until_the_step_of_one_that_left_is_over() -> None:
    engine, _ = noting_engine(2, max_num_seqs=2)
    for name in ("a", "b", "c"):
        engine.add_request(name, b"prompt " + name.encode(), LONG)
    for _ in range(4):
        engine.step()
    engine.cancel("a")
    engine.cancel("b")
    assert engine.has_work()
    assert engine._seats.num_taken >= 1
    events = drain(engine)
    assert tokens(events["c", 0]) == tokens_alone(b"prompt c", LONG)


def test_prompts_that_come_together_are_shared_out() -> None:
    engine, model = noting_engine(2)
    for number in range(4):
        engine.add_request(str(number), bytes([97 + number]) * 16, LONG)
    engine.step()
    assert model.sizes == [2, 2]


@pytest.mark.parametrize("num_in_flight", [1, 2, 3])
def test_a_step_is_planned_once(num_in_flight: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is planned in vain while all who run are under way and nobody else finds a seat."""
    planned: list[Step] = []

    def plan(*given: Any, **more: Any) -> Step:
        planned.append(plan_step(*given, **more))
        return planned[-1]

    monkeypatch.setattr(steps, "plan_step", plan)
    engine, model = noting_engine(num_in_flight, max_num_seqs=2)
    for number in range(2):
        engine.add_request(str(number), b"prompt %d" % number, LONG)
    for _ in range(6):
        engine.step()
    engine.add_request("waits", b"for a seat", LONG)
    for _ in range(6):
        engine.step()
    assert len(planned) == len(model.sizes) > 6


def test_steps_under_way_may_become_more_and_fewer() -> None:
    """Nothing about the answers changes, and never are there more than at the time are allowed."""
    model = Noting(128, 3)
    limits = EngineLimits(max_model_len=128, max_num_seqs=6, token_budget=64, num_blocks=128)
    depth = Wavering([3, 1, 2, 1, 3, 2])
    engine = Engine(
        model,
        limits,
        vocab_size=FakeTokenizer.vocab_size,
        tokenizer=FakeTokenizer(),
        depth=depth,
    )
    for number in range(9):
        engine.add_request(str(number), b"prompt %d" % number, LONG)
    events = drain(engine)
    for number in range(9):
        assert tokens(events[str(number), 0]) == tokens_alone(b"prompt %d" % number, LONG)
    assert depth.most_seen == [3, 1, 2, 1, 3, 2]
    assert engine.statistics().num_free_blocks == 128


def test_a_prompt_with_scores_waits_for_the_steps_under_way() -> None:
    options = SamplingOptions(temperature=0.0, max_tokens=3, prompt_logprobs=1)
    engine = fake_engine(num_in_flight=2)
    for name in ("a", "b"):
        engine.add_request(name, b"prompt " + name.encode(), LONG)
        engine.step()
    engine.add_request("scored", b"some other prompt", options)
    events = drain(engine)
    plain = fake_engine()
    plain.add_request("scored", b"some other prompt", options)
    alone = drain(plain)
    assert events["scored", 0][0].prompt_logprobs == alone["scored", 0][0].prompt_logprobs
    assert tokens(events["scored", 0]) == tokens(alone["scored", 0])


def test_an_urgent_one_takes_the_place_of_one_at_rest_only() -> None:
    engine, _ = noting_engine(2, max_num_seqs=2)
    later, now = RequestContext(priority=5), RequestContext(priority=0)
    for name in ("a", "b"):
        engine.add_request(name, b"prompt " + name.encode(), LONG, later)
        engine.step()
    engine.add_request("urgent", b"urgent", LONG, now)
    events = drain(engine)
    assert engine.statistics().preemptions == 1
    for name, prompt in (("a", b"prompt a"), ("b", b"prompt b"), ("urgent", b"urgent")):
        heard = tokens(events[name, 0])
        assert len(heard) >= 10
        assert heard == tokens_alone(prompt, LONG)[-len(heard) :]


def test_what_was_begun_is_finished_before_the_engine_closes() -> None:
    engine, model = noting_engine(2)
    for name in ("a", "b"):
        engine.add_request(name, b"prompt " + name.encode(), LONG)
        engine.step()
    engine.step()
    assert len(model._begun) == 1
    engine.close()
    assert not model._begun
    assert np.any(model.cache)
