"""What the scheduler promises, on random workloads: one step at a time, and several under way."""

from collections import defaultdict, deque
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.cache.key_value_blocks import BlockPool, blocks_for
from banyan.engine.scheduling.scheduler import (
    Demand,
    SequenceId,
    Slice,
    Step,
    UnderWay,
    even_share,
    plan_step,
)


@dataclass(frozen=True)
class Workload:
    """Lengths (prompt, answer, step of arrival, priority) and a machine they must run on."""

    requests: list[tuple[int, int, int, int]]
    num_blocks: int
    token_budget: int
    max_running: int
    num_in_flight: int


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    requests = draw(
        st.lists(
            st.tuples(
                st.integers(1, 70), st.integers(1, 40), st.integers(0, 30), st.integers(0, 2)
            ),
            min_size=1,
            max_size=12,
        )
    )
    longest = max(blocks_for(prompt + answer) for prompt, answer, _, _ in requests)
    max_running = draw(st.integers(1, 6))
    return Workload(
        requests,
        num_blocks=draw(st.integers(longest, longest + 12)),
        token_budget=draw(st.integers(max_running, 48)),
        max_running=max_running,
        num_in_flight=draw(st.sampled_from((1, 1, 2, 3, 4))),
    )


class Simulation:
    """Carries steps out with a real block pool and checks each promise on the way."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.pool = BlockPool(workload.num_blocks)
        self.demands: dict[SequenceId, Demand] = {}
        self.owned: dict[SequenceId, list[int]] = {}
        self.goals: dict[SequenceId, int] = {}
        self.running: list[SequenceId] = []
        self.waiting: list[SequenceId] = []
        self.flights: deque[Step] = deque()
        self.passed_over: dict[SequenceId, int] = defaultdict(int)

    @property
    def under_way(self) -> set[SequenceId]:
        return {slice_.sequence_id for step in self.flights for slice_ in step.slices}

    def arrive(self, now: int) -> None:
        for number, (prompt, answer, when, priority) in enumerate(self.workload.requests):
            if when == now:
                sequence_id = SequenceId(number)
                self.demands[sequence_id] = Demand(sequence_id, prompt, 0, 0, priority=priority)
                self.goals[sequence_id] = prompt + answer
                self.owned[sequence_id] = []
                self._wait(sequence_id)

    def _wait(self, sequence_id: SequenceId) -> None:
        self.waiting.append(sequence_id)
        self.waiting.sort(key=self._precedence)

    def _precedence(self, sequence_id: SequenceId) -> tuple[int, int]:
        return self.demands[sequence_id].priority, sequence_id

    def step(self) -> None:
        """Begin steps as long as there is room and work, then finish the oldest."""
        while len(self.flights) < self.workload.num_in_flight and self._begin():
            pass
        assert self.flights or not (self.running or self.waiting), "work waits and none is done"
        if self.flights:
            for slice_ in self.flights.popleft().slices:
                self._finish(slice_)

    def _begin(self) -> bool:
        under_way = self.under_way
        resting = [i for i in self.running if i not in under_way]
        num_decoding = sum(self.demands[i].is_decoding for i in resting) + sum(
            slice_.reaches_end for step in self.flights for slice_ in step.slices
        )
        share = even_share(num_decoding, self.workload.num_in_flight)
        step = plan_step(
            [self.demands[i] for i in resting],
            [self.demands[i] for i in self.waiting],
            free_blocks=self.pool.num_free,
            token_budget=-(-self.workload.token_budget // self.workload.num_in_flight),
            max_running=self.workload.max_running,
            most_decoding=share,
            under_way=UnderWay(len(under_way)),
        )
        if self.running:
            first = self.running[0]
            urgency = self.demands[first].priority
            is_outranked = any(self.demands[i].priority < urgency for i in step.admitted)
            assert is_outranked or first not in step.preempted, "the first was made to wait"
        if not step.slices:
            assert (step.admitted, step.preempted) == ((), ())
            return False
        self._carry_out(step, resting, share)
        self.flights.append(step)
        return True

    def _carry_out(self, step: Step, resting: list[SequenceId], share: int) -> None:
        assert sum(s.num_tokens for s in step.slices) <= self.workload.token_budget
        waiting = list(self.waiting)
        for sequence_id in step.preempted:
            assert sequence_id == resting.pop(), "not the last was preempted"
            self.running.remove(sequence_id)
            self.pool.release(self.owned[sequence_id])
            self.owned[sequence_id] = []
            self.demands[sequence_id] = replace(
                self.demands[sequence_id], num_computed=0, num_blocks=0
            )
            self._wait(sequence_id)
        for sequence_id in step.admitted:
            assert sequence_id == waiting.pop(0), "one that is not next overtook"
            self.waiting.remove(sequence_id)
            self.running.append(sequence_id)
        self.running.sort(key=self._precedence)
        assert len(self.running) <= self.workload.max_running
        computed = [s.sequence_id for s in step.slices]
        assert len(set(computed)) == len(computed)
        assert self.under_way.isdisjoint(computed), "a sequence is in two steps"
        decoding = [i for i in resting if self.demands[i].is_decoding]
        assert sum(i in computed for i in decoding) == min(share, len(decoding))
        for sequence_id in decoding:
            if sequence_id in computed:
                self.passed_over[sequence_id] = 0
            else:
                self.passed_over[sequence_id] += 1
                most = self.workload.num_in_flight - 1
                assert self.passed_over[sequence_id] <= most, "a stream was stalled"
        for slice_ in step.slices:
            self._compute(slice_)
        everything = [block for blocks in self.owned.values() for block in blocks]
        assert len(everything) == len(set(everything)), "a block has two owners"
        assert self.pool.num_free + len(everything) == self.workload.num_blocks

    def _compute(self, slice_: Slice) -> None:
        sequence_id = slice_.sequence_id
        assert sequence_id in self.running
        blocks = self.pool.reserve(slice_.new_blocks)
        assert blocks is not None, "the plan took more blocks than are free"
        self.owned[sequence_id] += blocks
        demand = self.demands[sequence_id]
        computed = demand.num_computed + slice_.num_tokens
        assert computed <= 16 * len(self.owned[sequence_id]), "a token has no place"
        assert slice_.reaches_end == (computed == demand.num_tokens)

    def _finish(self, slice_: Slice) -> None:
        sequence_id = slice_.sequence_id
        demand = self.demands[sequence_id]
        demand = Demand(
            sequence_id,
            demand.num_tokens + slice_.reaches_end,
            demand.num_computed + slice_.num_tokens,
            len(self.owned[sequence_id]),
            priority=demand.priority,
        )
        self.demands[sequence_id] = demand
        if demand.num_tokens == self.goals[sequence_id]:
            self.pool.release(self.owned.pop(sequence_id))
            self.running.remove(sequence_id)
            del self.goals[sequence_id]


@settings(max_examples=120, deadline=None)
@given(workloads())
def test_every_request_ends_within_the_budget_and_no_block_has_two_owners(
    workload: Workload,
) -> None:
    simulation = Simulation(workload)
    for now in range(5000):
        simulation.arrive(now)
        simulation.step()
        if now > 30 and not simulation.goals:
            break
    assert not simulation.goals, f"these never ended: {simulation.goals}"
    assert simulation.pool.num_free == workload.num_blocks
