"""The simulated engine makes the choices of the real scheduler, and breaks none of its limits."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.cache.key_value_blocks import blocks_for
from banyan.engine.scheduling.scheduler import Demand, SequenceId, Step, plan_step
from banyan.planner.simulation.engine import SimulatedEngine
from banyan.planner.simulation.requests import EngineLimits, Requests
from tests.planner.simulation.exact_times import StraightTimes

TIMES = StraightTimes()


@dataclass
class Job:
    arrival: float
    prompt: int
    answer: int
    written: int = 0
    computed: int = 0
    blocks: int = 0
    preempted: int = 0
    first_token: float = math.nan
    finished: float = math.nan

    @property
    def known(self) -> int:
        return self.prompt + self.written


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
    EngineLimits, st.integers(9, 24), st.sampled_from([8, 17, 32, 64]), st.integers(1, 8)
)


@dataclass
class StepByStep:
    """Runs jobs with the real scheduler, one step after the other."""

    jobs: Sequence[Job]
    limits: EngineLimits
    now: float = 0.0
    free: int = 0
    waiting: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)

    def run(self) -> None:
        self.free = self.limits.num_blocks
        coming = list(range(len(self.jobs)))
        while coming or self.waiting or self.running:
            if not self.waiting and not self.running:
                self.now = max(self.now, self.jobs[coming[0]].arrival)
            while coming and self.jobs[coming[0]].arrival <= self.now:
                self.waiting.append(coming.pop(0))
            step = plan_step(
                list(map(self.demand, self.running)),
                list(map(self.demand, self.waiting)),
                free_blocks=self.free,
                token_budget=self.limits.token_budget,
                max_running=self.limits.max_running,
            )
            self.take_up(step)
            self.compute(step)

    def demand(self, number: int) -> Demand:
        job = self.jobs[number]
        return Demand(SequenceId(number), job.known, job.computed, job.blocks)

    def take_up(self, step: Step) -> None:
        for number in step.preempted:
            job = self.jobs[number]
            self.free += job.blocks
            job.blocks = job.computed = 0
            job.preempted += 1
            self.running.remove(number)
            self.waiting.insert(0, number)
        for number in step.admitted:
            self.waiting.remove(number)
            self.running.append(number)

    def compute(self, step: Step) -> None:
        tokens = rows = cached = pairs = 0
        for part in step.slices:
            job = self.jobs[part.sequence_id]
            self.free -= part.new_blocks
            job.blocks += part.new_blocks
            tokens += part.num_tokens
            rows += part.reaches_end
            cached += job.computed + part.num_tokens
            pairs += part.num_tokens * job.computed + part.num_tokens * (part.num_tokens + 1) // 2
        assert self.free >= 0
        self.now += TIMES.step(tokens, rows, cached, pairs).seconds
        for part in step.slices:
            job = self.jobs[part.sequence_id]
            job.computed += part.num_tokens
            if part.reaches_end:
                self.write(job, part.sequence_id)

    def write(self, job: Job, number: int) -> None:
        job.written += 1
        if job.written == 1:
            job.first_token = self.now
        if job.written == job.answer:
            job.finished = self.now
            self.free += job.blocks
            self.running.remove(number)


def step_by_step(jobs: Sequence[Job], limits: EngineLimits) -> None:
    StepByStep(jobs, limits).run()


def by_events(jobs: Sequence[Job], limits: EngineLimits) -> tuple[Requests, SimulatedEngine]:
    requests = Requests.of(
        array("i", [j.prompt for j in jobs]), array("i", [j.answer for j in jobs])
    )
    engine = SimulatedEngine(limits, TIMES, requests, bin_seconds=10.0)
    for number, job in enumerate(jobs):
        while engine.until < job.arrival:
            engine.advance()
            assert 0 <= engine.free_blocks <= limits.num_blocks
        engine.arrive(number, job.arrival)
    while engine.until < math.inf:
        engine.advance()
        assert 0 <= engine.free_blocks <= limits.num_blocks
    return requests, engine


@settings(max_examples=150, deadline=None)
@given(JOBS, LIMITS)
def test_it_makes_the_choices_of_the_real_scheduler(jobs: list[Job], limits: EngineLimits) -> None:
    limits = EngineLimits(limits.num_blocks, max(limits.token_budget, 8), limits.max_running)
    requests, engine = by_events(jobs, limits)
    step_by_step(jobs, limits)
    assert list(requests.first_token) == pytest.approx([job.first_token for job in jobs], rel=1e-9)
    assert list(requests.finished) == pytest.approx([job.finished for job in jobs], rel=1e-9)
    assert list(requests.preempted) == [job.preempted for job in jobs]
    assert engine.free_blocks == limits.num_blocks
    assert engine.num_running == 0


def test_one_request_takes_its_prompt_and_one_step_for_each_further_token() -> None:
    requests, engine = by_events([Job(5.0, 20, 3)], EngineLimits(8))
    first = TIMES.step(20, 1, 20, 210).seconds
    later = TIMES.step(1, 1, 21, 21).seconds + TIMES.step(1, 1, 22, 22).seconds
    assert requests.first_token[0] == pytest.approx(5 + first)
    assert requests.finished[0] == pytest.approx(5 + first + later)
    assert sum(engine.meter.busy) == pytest.approx(first + later)
    assert engine.num_steps == 3


def test_who_comes_during_a_step_joins_at_its_end() -> None:
    requests, _ = by_events([Job(0.0, 10, 40), Job(3.0, 10, 2)], EngineLimits(16))
    jobs = [Job(0.0, 10, 40), Job(3.0, 10, 2)]
    step_by_step(jobs, EngineLimits(16))
    assert requests.first_token[1] == pytest.approx(jobs[1].first_token)


def test_the_last_gives_way_when_blocks_run_out() -> None:
    limits = EngineLimits(8)
    requests, _ = by_events([Job(0.0, 30, 60), Job(0.0, 30, 60)], limits)
    assert list(requests.preempted) == [0, 1]
    assert blocks_for(30 + 60 - 1) <= limits.num_blocks


def test_a_lost_engine_gives_up_everything_with_the_tokens_it_had() -> None:
    jobs = [Job(0.0, 10, 40), Job(0.0, 10, 40)]
    requests = Requests.of(array("i", [10, 10]), array("i", [40, 40]))
    engine = SimulatedEngine(EngineLimits(16), TIMES, requests)
    for number, job in enumerate(jobs):
        engine.arrive(number, job.arrival)
    engine.advance()
    engine.advance()
    seconds = engine.until
    assert engine.abort(seconds / 2) == [0, 1]
    assert engine.until == math.inf
    assert engine.free_blocks == 16
    assert 1 < requests.written[0] < 40
    for number in (0, 1):
        engine.arrive(number, seconds)
    while engine.until < math.inf:
        engine.advance()
    assert all(time > seconds for time in requests.finished)
    assert all(time < seconds for time in requests.first_token)


def test_a_slower_engine_is_slower_from_its_next_step_on() -> None:
    requests = Requests.of(array("i", [10]), array("i", [40]))
    engine = SimulatedEngine(EngineLimits(16), TIMES, requests)
    engine.arrive(0, 0.0)
    engine.advance()
    engine.change_times(StraightTimes(step_seconds=10.0), 5.0)
    while engine.until < math.inf:
        engine.advance()
    assert requests.finished[0] > 300
