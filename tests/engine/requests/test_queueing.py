"""Priorities, shares, deadlines and bounds through a whole engine, on a clock made of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from banyan.engine.engine import Engine
from banyan.engine.events import TokenEvent
from banyan.engine.fake import FakeModel, fake_engine
from banyan.engine.options import EngineLimits, EngineOptions, QueuePolicy
from banyan.engine.request_context import RequestContext
from banyan.engine.requests.request import Sequence as Answer
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.engine.scheduling.scheduler import Demand
from banyan.engine.structure.definition import Structure
from banyan.foundation.errors import DeadlineMissed, InputError, Overloaded


class Clock:
    """Goes forward when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TimedModel(StepModel):
    """A fake model that takes 10 ms a step and 1 ms a token by the clock."""

    def __init__(self, num_blocks: int, clock: Clock) -> None:
        self._model = FakeModel(num_blocks)
        self._clock = clock
        self.steps: list[int] = []

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        num_tokens = len(arguments["token_ids"])
        self.steps.append(num_tokens)
        self._clock.now += 0.01 + 0.001 * num_tokens
        return self._model.run(arguments)


def timed_engine(
    policy: QueuePolicy, *, max_num_seqs: int = 4, token_budget: int = 256
) -> tuple[Engine, TimedModel, Clock]:
    clock = Clock()
    limits = EngineLimits(
        max_model_len=1024, max_num_seqs=max_num_seqs, token_budget=token_budget, num_blocks=512
    )
    model = TimedModel(512, clock)
    return Engine(model, limits, vocab_size=260, policy=policy, clock=clock), model, clock


def answer_of(max_tokens: int) -> SamplingOptions:
    return SamplingOptions(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)


def finishing_order(engine: Engine) -> list[str]:
    order = []
    while engine.has_work():
        for event in engine.step():
            if event.finish_reason is not None:
                order.append(event.request_id)
    return order


def test_an_urgent_request_overtakes_those_that_wait_and_takes_a_seat_from_one_that_runs() -> None:
    engine = fake_engine(max_num_seqs=1)
    engine.add_request("runs", b"abc", answer_of(20), RequestContext(priority=5))
    engine.step()
    engine.add_request("waits", b"abd", answer_of(2), RequestContext(priority=5))
    engine.add_request("urgent", b"abe", answer_of(2), RequestContext(priority=1))
    assert finishing_order(engine) == ["urgent", "runs", "waits"]
    assert engine.statistics().preemptions == 1
    assert engine.statistics().num_free_blocks == 128


def test_a_request_set_back_by_an_urgent_one_still_gets_its_own_tokens() -> None:
    def tokens(*, with_urgent: bool) -> list[int]:
        engine = fake_engine(max_num_seqs=1)
        engine.add_request("runs", b"abc" * 20, answer_of(20), RequestContext(priority=5))
        events = [event for _ in range(5) for event in engine.step()]
        if with_urgent:
            engine.add_request("urgent", b"x" * 50, answer_of(9))
        while engine.has_work():
            events += engine.step()
        return [t for event in events if event.request_id == "runs" for t in event.token_ids]

    assert tokens(with_urgent=True) == tokens(with_urgent=False)


def test_an_urgent_request_that_finds_the_blocks_of_whom_it_sets_back_does_not_break_the_plan() -> (
    None
):
    engine = fake_engine(max_model_len=128, num_blocks=8, max_num_seqs=4, token_budget=128)

    def ask(name: str, prompt: bytes, *, max_tokens: int, priority: int) -> None:
        options = SamplingOptions(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
        engine.add_request(name, prompt, options, RequestContext(priority=priority))
        engine.step()

    ask("other", b"b" * 18, max_tokens=12, priority=0)
    ask("late", b"a" * 64, max_tokens=20, priority=5)
    engine.step()
    ask("urgent", b"a" * 64 + b"c" * 44, max_tokens=4, priority=0)
    engine.step()
    for _ in range(100):
        engine.step()
    statistics = engine.statistics()
    assert not engine.has_work()
    assert statistics.preemptions == 1
    assert statistics.num_free_blocks == 8
    assert statistics.tokens_generated == 12 + 20 + 4


def test_a_line_that_finds_no_seat_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = fake_engine(max_num_seqs=1)
    options = SamplingOptions(temperature=0.0, max_tokens=4, ignore_eos=True)
    for number in range(5):
        context = RequestContext(caller=str(number), priority=number % 2)
        engine.add_request(str(number), b"abc", options, context)
    engine.step()
    looked_at: list[str] = []
    see = engine._residency.waiting_demand

    def note(answer: Answer) -> Demand:
        looked_at.append(answer.request.request_id)
        return see(answer)

    monkeypatch.setattr(engine._residency, "waiting_demand", note)
    for _ in range(3):
        engine.step()
    assert looked_at == []
    engine.step()
    assert looked_at == ["2", "4"]  # the one who gets the seat, and the one after it


def test_a_flood_of_one_caller_does_not_hold_up_another() -> None:
    engine = fake_engine(max_num_seqs=1)
    for number in range(6):
        engine.add_request(f"f{number}", b"abc", answer_of(2), RequestContext(caller="flood"))
    engine.add_request("o0", b"abc", answer_of(2), RequestContext(caller="other"))
    engine.add_request("o1", b"abc", answer_of(2), RequestContext(caller="other"))
    order = finishing_order(engine)
    assert order.index("o0") <= 1
    assert order.index("o1") <= 3
    assert sorted(order) == ["f0", "f1", "f2", "f3", "f4", "f5", "o0", "o1"]


def test_a_deadline_that_passes_while_waiting_is_answered_and_never_computed() -> None:
    engine, model, clock = timed_engine(QueuePolicy(), max_num_seqs=1)
    engine.add_request("long", b"a" * 100, answer_of(50))
    engine.add_request("late", b"b" * 100, answer_of(5), RequestContext(deadline_seconds=0.3))
    finished = []
    while engine.has_work():
        finished += [event.request_id for event in engine.step() if event.finish_reason]
        for refusal in engine.take_refusals():
            assert refusal.request_id == "late"
            assert isinstance(refusal.error, DeadlineMissed)
            assert clock.now < 100.5
            finished.append("late")
    assert finished == ["late", "long"]
    assert engine.statistics().deadlines_missed == 1
    assert sum(model.steps) == 100 + 49


def test_a_deadline_passed_in_the_middle_of_a_prompt_stops_computing_it() -> None:
    engine, model, _ = timed_engine(QueuePolicy(), token_budget=50)
    engine.add_request("late", b"b" * 1000, answer_of(5), RequestContext(deadline_seconds=0.5))
    while engine.has_work():
        engine.step()
        refusals = engine.take_refusals()
    assert [refusal.request_id for refusal in refusals] == ["late"]
    assert sum(model.steps) < 600
    assert engine.statistics().num_free_blocks == 512


def test_an_answer_that_has_begun_is_not_ended_by_its_deadline() -> None:
    engine, _, _ = timed_engine(QueuePolicy())
    engine.add_request("a", b"abc", answer_of(100), RequestContext(deadline_seconds=0.2))
    assert finishing_order(engine) == ["a"]
    assert engine.take_refusals() == []


def test_a_full_queue_refuses_and_what_was_let_in_is_served() -> None:
    engine, _, _ = timed_engine(QueuePolicy(max_waiting_requests=2), max_num_seqs=1)
    engine.add_request("runs", b"abc", answer_of(5))
    engine.step()
    engine.add_request("1", b"abc", answer_of(5))
    engine.add_request("2", b"abc", answer_of(5))
    with pytest.raises(Overloaded, match="the queue is full: 2 of at most 2 answers wait"):
        engine.add_request("3", b"abc", answer_of(5))
    assert engine.statistics().requests_refused == 1
    assert finishing_order(engine) == ["runs", "1", "2"]
    engine.add_request("3", b"abc", answer_of(5))
    assert finishing_order(engine) == ["3"]


def test_nobody_goes_when_that_would_not_be_enough() -> None:
    engine = fake_engine(max_num_seqs=1, policy=QueuePolicy(max_waiting_tokens=20))
    options = SamplingOptions(temperature=0.0, max_tokens=4, ignore_eos=True)
    engine.add_request("runs", b"abc", options)
    engine.step()
    engine.add_request("old", b"a" * 5, options)
    for name in ("b", "c"):
        engine.add_request(name, b"a" * 5, options, RequestContext(priority=1))
    with pytest.raises(Overloaded, match="15 of at most 20 prompt tokens"):
        engine.add_request("large", b"a" * 30, options)
    assert [answer.request.request_id for answer in engine._reception.line] == ["old", "b", "c"]
    ended = []
    for _ in range(30):
        ended += [event.request_id for event in engine.step() if event.finish_reason]
    assert ended == ["runs", "old", "b", "c"]
    assert engine.take_refusals() == []
    assert engine.statistics().requests_refused == 1


def test_those_whose_structure_is_compiled_take_room_in_the_queue() -> None:
    engine = fake_engine(policy=QueuePolicy(max_waiting_requests=3))
    refused = 0
    for number in range(50):
        structure = Structure.regex(f"[a-c]{{{number + 1}}}")
        options = SamplingOptions(temperature=0.0, max_tokens=4, structure=structure)
        try:
            engine.add_request(str(number), b"abc", options)
        except Overloaded:
            refused += 1
    assert refused == 47
    while engine.has_work():
        engine.step()
    assert engine.statistics().tokens_generated > 0
    engine.close()


def test_one_displaced_by_a_caller_with_less_is_told_so() -> None:
    engine, _, _ = timed_engine(QueuePolicy(max_waiting_requests=2), max_num_seqs=1)
    for name in ("1", "2"):
        engine.add_request(name, b"abc", answer_of(5), RequestContext(caller="flood"))
    engine.add_request("3", b"abc", answer_of(5), RequestContext(caller="other"))
    (refusal,) = engine.take_refusals()
    assert refusal.request_id == "2"
    assert sorted(finishing_order(engine)) == ["1", "3"]


@pytest.mark.parametrize("is_taken_up", [False, True])
def test_a_request_is_not_given_up_once_one_of_its_answers_has_begun(*, is_taken_up: bool) -> None:
    clock = Clock()
    engine = fake_engine(
        max_num_seqs=1,
        clock=clock,
        policy=QueuePolicy(first_token_goal_seconds=1.0, max_waiting_requests=2),
    )
    options = SamplingOptions(temperature=0.0, max_tokens=4, ignore_eos=True, n=2)
    if is_taken_up:
        engine.add_request("two", b"abc", options, told=((112, 105), ()))
    else:
        engine.add_request("two", b"abc", options, RequestContext(deadline_seconds=1.0))
        engine.step()
    clock.now += 5.0
    with pytest.raises(Overloaded):  # nor to make room for a more urgent one
        engine.add_request("urgent", b"x", options, RequestContext(priority=-1))
    ended = []
    while engine.has_work():
        ended += [event.index for event in engine.step() if event.finish_reason == "length"]
        clock.now += 5.0
    assert ended == [0, 1]
    assert engine.take_refusals() == []


def test_the_step_goal_cuts_prompts_so_that_readers_do_not_wait() -> None:
    longest = {}
    for goal in (None, 0.06):
        engine, model, _ = timed_engine(QueuePolicy(latency_goal_seconds=goal))
        engine.add_request("reads", b"abc", answer_of(60))
        for _ in range(10):
            engine.step()
        for number in range(3):
            engine.add_request(str(number), bytes([97 + number]) * 600, answer_of(2))
        while engine.has_work():
            engine.step()
        longest[goal] = max(0.01 + 0.001 * size for size in model.steps)
    assert longest[None] > 0.2
    assert longest[0.06] < 0.075


class Overload:
    """Requests at ten times the capacity of a timed engine."""

    def __init__(self, policy: QueuePolicy) -> None:
        self.engine, _, self.clock = timed_engine(policy, max_num_seqs=8)
        self.arrived: dict[str, float] = {}
        self.first_token: dict[str, float] = {}
        self.finished: set[str] = set()
        self.refused: dict[str, Overloaded] = {}

    def run(self, *, seconds: float, rate: float) -> None:
        end = self.clock.now + seconds
        chance = np.random.default_rng(4)
        arrival = self.clock.now
        while self.clock.now < end or self.engine.has_work():
            while arrival <= min(self.clock.now, end):
                self._come(bytes(chance.integers(97, 122, 60, dtype=np.uint8)))
                arrival += float(chance.exponential(1 / rate))
            if not self.engine.has_work():
                self.clock.now = arrival
                continue
            self._note(self.engine.step())

    def _come(self, prompt: bytes) -> None:
        name = str(len(self.arrived))
        self.arrived[name] = self.clock.now
        try:
            self.engine.add_request(name, prompt, answer_of(10))
        except Overloaded as error:
            self.refused[name] = error

    def _note(self, events: Sequence[TokenEvent]) -> None:
        for refusal in self.engine.take_refusals():
            assert isinstance(refusal.error, Overloaded)
            self.refused[refusal.request_id] = refusal.error
        for event in events:
            self.first_token.setdefault(event.request_id, self.clock.now)
            if event.finish_reason is not None:
                self.finished.add(event.request_id)


def test_under_ten_times_the_load_the_admitted_finish_in_time_and_the_rest_are_told_when() -> None:
    overload = Overload(QueuePolicy(first_token_goal_seconds=1.0, max_waiting_requests=500))
    # One answer takes 60 + 9 tokens of 1 ms and shares steps of 10 ms with 7 others: about 12 in
    # a second.
    overload.run(seconds=25.0, rate=120.0)
    assert overload.finished.isdisjoint(overload.refused)
    assert overload.finished | set(overload.refused) == set(overload.arrived)
    waits = [overload.first_token[name] - overload.arrived[name] for name in overload.finished]
    assert float(np.quantile(waits, 0.99)) <= 1.0
    assert max(waits) <= 1.15
    assert len(overload.finished) > 0.8 * 25 * 12, "capacity was wasted"
    assert len(overload.refused) > 4 * len(overload.finished)
    assert all(1 <= error.retry_after_seconds <= 60 for error in overload.refused.values())
    assert overload.engine.statistics().num_free_blocks == 512


@pytest.mark.parametrize("name", ["first_token_goal_ms", "latency_goal_ms"])
def test_a_goal_that_is_no_time_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}=0 cannot be used; give a number above 0"):
        replace(EngineOptions(), **{name: 0.0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["max_waiting_requests", "max_waiting_tokens"])
def test_a_queue_without_room_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=0 cannot be used"):
        replace(EngineOptions(), **{name: 0})  # type: ignore[arg-type]
