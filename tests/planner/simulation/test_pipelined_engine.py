"""With several steps under way the simulated engine does what the real engine does."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from banyan.compiler.executable import PendingRun
from banyan.engine.engine import Engine
from banyan.engine.options import EngineLimits as RealLimits
from banyan.engine.runner import StepModel
from banyan.engine.sampling import SamplingOptions
from banyan.planner.simulation.pipelined_engine import PipelinedEngine
from banyan.planner.simulation.requests import EngineLimits, Requests
from tests.planner.simulation.exact_times import StraightTimes

NEVER_AT_ONCE = 10**9
LONGEST = 140


@dataclass(frozen=True)
class Job:
    arrival: float
    prompt: int
    answer: int


JOBS = st.lists(
    st.builds(
        Job,
        st.sampled_from([0.0, 0.5, 2.0, 7.3, 11.0, 40.0]),
        st.integers(1, 70),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=12,
).map(lambda jobs: sorted(jobs, key=lambda job: job.arrival))
LIMITS = st.builds(
    EngineLimits,
    st.integers(9, 24),
    st.sampled_from([8, 17, 32, 64]),
    st.integers(1, 8),
    st.sampled_from([2, 3, 4]),
)
SHARES = st.sampled_from([(0.5, 0.5), (0.5, 0.25), (0.25, 0.5), (0.125, 0.5, 0.25), (0.75,)])


@dataclass
class TimedRun:
    model: "TimedModel"
    end: float
    num_rows: int

    def finish(self) -> Mapping[str, NDArray[Any]]:
        self.model.now = max(self.model.now, self.end)
        self.model.num_steps += 1
        return {"logits": np.zeros((self.num_rows, 8), np.float32)}


@dataclass
class TimedModel(StepModel):
    """Computes nothing; its clock goes on as steps pass through places."""

    times: StraightTimes
    depth: int
    now: float = 0.0
    num_steps: int = 0
    last_end: float = 0.0
    free: list[float] = field(default_factory=list)

    @property
    def num_in_flight(self) -> int:
        return self.depth

    def begin(self, arguments: Mapping[str, NDArray[Any]]) -> PendingRun:
        ends = arguments["context_lengths"].astype(int)
        counts = np.diff(arguments["query_starts"]).astype(int)
        pairs = int((counts * (ends - counts) + counts * (counts + 1) // 2).sum())
        num_rows, times = len(arguments["logit_rows"]), self.times
        seconds = times.step(int(counts.sum()), num_rows, int(ends.sum()), pairs).seconds
        way = seconds * (1 - sum(times.shares)) / len(times.shares)
        self.free = self.free or [0.0] * len(times.shares)
        time = self.now
        for place, share in enumerate(times.shares):
            self.free[place] = max(time, self.free[place]) + share * seconds
            time = self.free[place] + way
        self.last_end = max(self.last_end, time)
        return TimedRun(self, self.last_end, num_rows)

    def run(self, arguments: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return self.begin(arguments).finish()


@dataclass
class Outcome:
    first_token: list[float]
    finished: list[float]
    num_preempted: int
    num_steps: int


def really(jobs: Sequence[Job], limits: EngineLimits, times: StraightTimes) -> Outcome:
    model = TimedModel(times, limits.num_in_flight)
    real = RealLimits(
        max_model_len=LONGEST,
        max_num_seqs=limits.max_running,
        token_budget=limits.token_budget,
        num_blocks=limits.num_blocks,
    )
    engine = Engine(model, real, vocab_size=8, enable_prefix_caching=False, clock=lambda: model.now)
    first, end = [math.nan] * len(jobs), [math.nan] * len(jobs)
    coming = 0
    while coming < len(jobs) or engine.has_work():
        if not engine.has_work():
            model.now = max(model.now, jobs[coming].arrival)
        while coming < len(jobs) and jobs[coming].arrival <= model.now:
            job = jobs[coming]
            options = SamplingOptions(temperature=0.0, max_tokens=job.answer, ignore_eos=True)
            engine.add_request(str(coming), [1] * job.prompt, options)
            coming += 1
        for event in engine.step():
            number = int(event.request_id)
            if math.isnan(first[number]):
                first[number] = model.now
            if event.finish_reason is not None:
                end[number] = model.now
    preempted = engine.statistics().preemptions
    engine.close()
    return Outcome(first, end, preempted, model.num_steps)


def simulated(
    jobs: Sequence[Job],
    limits: EngineLimits,
    times: StraightTimes,
    *,
    fewest_rounds: int = NEVER_AT_ONCE,
) -> tuple[Outcome, PipelinedEngine]:
    prompts, answers = [j.prompt for j in jobs], [j.answer for j in jobs]
    requests = Requests.of(array("i", prompts), array("i", answers))
    places = tuple(range(len(times.shares)))
    engine = PipelinedEngine(
        limits, times, requests, places, bin_seconds=10.0, fewest_rounds=fewest_rounds
    )
    for number, job in enumerate(jobs):
        while engine.until < job.arrival:
            engine.advance()
            assert 0 <= engine.free_blocks <= limits.num_blocks
        engine.arrive(number, job.arrival)
    while engine.until < math.inf:
        engine.advance()
        assert 0 <= engine.free_blocks <= limits.num_blocks
    assert (engine.num_running, engine.free_blocks) == (0, limits.num_blocks)
    first, end = list(requests.first_token), list(requests.finished)
    return Outcome(first, end, sum(requests.preempted), engine.num_steps), engine


@settings(max_examples=40)
@given(JOBS, LIMITS, SHARES)
def test_it_does_what_the_real_engine_does(
    jobs: list[Job], limits: EngineLimits, shares: tuple[float, ...]
) -> None:
    budget = max(limits.token_budget, 8)
    limits = EngineLimits(limits.num_blocks, budget, limits.max_running, limits.num_in_flight)
    # The engine asks for a row of logits even where no sequence wants one.
    times = StraightTimes(shares=shares, row=0.0)
    real, (found, _) = really(jobs, limits, times), simulated(jobs, limits, times)
    assert found.first_token == pytest.approx(real.first_token, rel=1e-9)
    assert found.finished == pytest.approx(real.finished, rel=1e-9)
    assert found.num_preempted == real.num_preempted
    assert found.num_steps == real.num_steps


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.3, 0.6), (0.2, 0.3, 0.4)])
def test_rounds_taken_at_once_take_as_long_as_one_by_one(shares: tuple[float, ...]) -> None:
    jobs = [Job(0.0, 30, 300), Job(3.0, 20, 900), Job(9.0, 50, 700), Job(450.5, 10, 200)]
    limits = EngineLimits(400, 64, 8, len(shares))
    times = StraightTimes(shares=shares)
    slow, engine = simulated(jobs, limits, times)
    fast, at_once = simulated(jobs, limits, times, fewest_rounds=6)
    assert fast.first_token == pytest.approx(slow.first_token, rel=2e-3)
    assert fast.finished == pytest.approx(slow.finished, rel=2e-3)
    assert fast.num_steps == pytest.approx(slow.num_steps, abs=2)
    assert sum(at_once.meter.busy) == pytest.approx(sum(engine.meter.busy), rel=2e-3)
    assert at_once.meter.part_busy == pytest.approx(engine.meter.part_busy, rel=5e-3)


def test_rounds_at_once_take_as_long_where_places_slow_each_other_down() -> None:
    jobs = [Job(0.0, 30, 300), Job(3.0, 20, 900), Job(9.0, 50, 700)]
    limits, times = EngineLimits(400, 64, 8, 2), StraightTimes(shares=(0.4, 0.5), crowding=1.5)
    (slow, engine), (fast, at_once) = (
        simulated(jobs, limits, times, fewest_rounds=fewest) for fewest in (NEVER_AT_ONCE, 6)
    )
    assert fast.finished == pytest.approx(slow.finished, rel=2e-3)
    assert at_once.meter.part_busy == pytest.approx(engine.meter.part_busy, rel=5e-3)


def test_work_grows_with_requests_and_not_with_tokens() -> None:
    requests = Requests.of(array("i", [10, 10]), array("i", [100_000, 100_000]))
    engine = PipelinedEngine(EngineLimits(20_000, 64, 8, 2), StraightTimes(), requests, (0, 1))
    engine.arrive(0, 0.0)
    engine.arrive(1, 0.0)
    num_events = 0
    while engine.until < math.inf:
        engine.advance()
        num_events += 1
    assert engine.num_steps > 199_000
    assert num_events < 60


def test_two_steps_keep_two_places_busy_in_half_the_time() -> None:
    jobs, limits = [Job(0.0, 1, 50)] * 2, EngineLimits(20, 64, 8, 2)
    times = StraightTimes(token=0, row=0, cached=0, pair=0, shares=(0.5, 0.5))
    both, engine = simulated(jobs, limits, times)
    # Both prompts are in the first step; then the sequences go apart, and each step takes 1 s.
    assert both.finished == pytest.approx([50.5, 50.0], abs=1.0)
    assert engine.meter.part_busy == pytest.approx([49.5, 49.5], abs=1.0)


def test_a_lost_engine_gives_up_everything_with_the_tokens_it_had() -> None:
    requests = Requests.of(array("i", [10, 10]), array("i", [400, 400]))
    times = StraightTimes(shares=(0.5, 0.5))
    engine = PipelinedEngine(EngineLimits(64, 64, 8, 2), times, requests, (0, 1))
    engine.arrive(0, 0.0)
    engine.arrive(1, 0.0)
    while engine.until < 20.0:
        engine.advance()
    seconds = engine.until
    assert seconds > 100.0
    assert engine.abort(seconds / 2) == [0, 1]
    assert (engine.until, engine.num_running, engine.free_blocks) == (math.inf, 0, 64)
    assert 1 < requests.written[0] < 400
    for number in (0, 1):
        engine.arrive(number, seconds)
    while engine.until < math.inf:
        engine.advance()
    assert all(time > seconds for time in requests.finished)


def test_a_slower_engine_is_slower_from_its_next_step_on() -> None:
    requests = Requests.of(array("i", [10]), array("i", [40]))
    engine = PipelinedEngine(EngineLimits(16, 64, 8, 2), StraightTimes(), requests, (0,))
    engine.arrive(0, 0.0)
    engine.advance()
    engine.change_times(StraightTimes(step_seconds=10.0), 5.0)
    while engine.until < math.inf:
        engine.advance()
    assert requests.finished[0] > 300
