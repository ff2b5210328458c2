"""The scheduler against tables of small cases, and against its promises on random workloads."""

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
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

A, B, C = SequenceId(1), SequenceId(2), SequenceId(3)


def plan(
    running: list[Demand],
    waiting: list[Demand],
    *,
    free_blocks: int = 100,
    token_budget: int = 8,
    max_running: int = 4,
) -> Step:
    return plan_step(
        running,
        waiting,
        free_blocks=free_blocks,
        token_budget=token_budget,
        max_running=max_running,
    )


def test_decoding_comes_before_prompts_and_the_last_prompt_is_cut_to_the_budget() -> None:
    step = plan([Demand(A, 5, 4, 1)], [Demand(B, 5, 0, 0), Demand(C, 9, 0, 0)])
    assert step == Step(
        preempted=(),
        admitted=(B, C),
        slices=(Slice(A, 1, 0, True), Slice(B, 5, 1, True), Slice(C, 2, 1, False)),
    )


def test_a_started_prompt_goes_on_before_a_new_one_is_admitted() -> None:
    step = plan([Demand(A, 20, 8, 2)], [Demand(B, 3, 0, 0)])
    assert step.slices == (Slice(A, 8, 0, False),)
    assert step.admitted == ()


def test_the_last_chunk_of_a_prompt_reaches_its_end() -> None:
    assert plan([Demand(A, 20, 16, 2)], []).slices == (Slice(A, 4, 0, True),)


def test_a_decoding_sequence_gets_a_block_when_it_crosses_into_a_new_one() -> None:
    assert plan([Demand(A, 16, 15, 1)], []).slices == (Slice(A, 1, 0, True),)
    assert plan([Demand(A, 17, 16, 1)], []).slices == (Slice(A, 1, 1, True),)


def test_the_whole_prompt_gets_its_blocks_at_admission_even_when_it_is_computed_in_chunks() -> None:
    assert plan([], [Demand(A, 40, 0, 0)]).slices == (Slice(A, 8, 3, False),)


def test_the_youngest_gives_way_when_blocks_run_out() -> None:
    running = [Demand(A, 17, 16, 1), Demand(B, 18, 17, 2)]
    step = plan(running, [Demand(C, 1, 0, 0)], free_blocks=0)
    assert step == Step(preempted=(B,), admitted=(), slices=(Slice(A, 1, 1, True),))


def test_the_youngest_gives_way_even_when_it_alone_needs_a_block() -> None:
    running = [Demand(A, 16, 15, 1), Demand(B, 17, 16, 1)]
    step = plan(running, [], free_blocks=0)
    assert step == Step(preempted=(B,), admitted=(), slices=(Slice(A, 1, 0, True),))


def test_two_give_way_youngest_first_when_one_is_not_enough() -> None:
    running = [Demand(A, 33, 32, 2), Demand(B, 2, 1, 1), Demand(C, 17, 16, 1)]
    assert plan(running, [], free_blocks=0).preempted == (C,)
    running = [Demand(A, 33, 32, 2), Demand(B, 17, 16, 1), Demand(C, 33, 0, 0)]
    assert plan(running, [], free_blocks=0).preempted == (C, B)


@pytest.mark.parametrize(
    ("free_blocks", "admitted"),
    [(1, ()), (2, (B,))],
    ids=["no spare block for the running one", "one spare block"],
)
def test_a_newcomer_must_leave_a_spare_block_for_each_that_runs(
    free_blocks: int, admitted: tuple[SequenceId, ...]
) -> None:
    step = plan([Demand(A, 5, 4, 1)], [Demand(B, 4, 0, 0)], free_blocks=free_blocks)
    assert step.admitted == admitted


def test_an_idle_engine_admits_into_its_very_last_block() -> None:
    assert plan([], [Demand(A, 16, 0, 0)], free_blocks=1, token_budget=16).admitted == (A,)


def test_a_short_request_does_not_overtake_a_long_one_that_waits_for_blocks() -> None:
    running = [Demand(A, 5, 4, 1)]
    waiting = [Demand(B, 100, 0, 0), Demand(C, 1, 0, 0)]
    assert plan(running, waiting, free_blocks=5).admitted == ()


def test_one_whose_next_block_is_being_computed_waits_for_it_and_others_pass() -> None:
    running = [Demand(A, 40, 16, 3, next_block="x")]
    waiting = [Demand(B, 40, 16, 1, next_block="x"), Demand(C, 3, 0, 0)]
    assert plan(running, waiting, token_budget=64).admitted == (C,)
    assert plan([], [Demand(A, 40, 0, 0, next_block="x"), *waiting], token_budget=64).admitted == (
        A,
        C,
    )


def test_one_that_waits_starts_behind_what_it_finds_and_takes_only_further_blocks() -> None:
    step = plan([], [Demand(A, 40, 32, 2, num_unshared=0)], free_blocks=1, token_budget=64)
    assert step.slices == (Slice(A, 8, 1, True),)


def test_found_blocks_that_nobody_holds_count_as_taken() -> None:
    waiting = [Demand(A, 40, 32, 2, num_unshared=2)]
    assert plan([], waiting, free_blocks=2, token_budget=64).admitted == ()
    assert plan([], waiting, free_blocks=3, token_budget=64).admitted == (A,)


def test_giving_way_frees_only_what_no_other_holds() -> None:
    running = [
        Demand(A, 33, 32, 2, num_unshared=0),
        Demand(B, 34, 33, 3, num_unshared=0),
        Demand(C, 34, 33, 3, num_unshared=1),
    ]
    assert plan(running, [], free_blocks=0).preempted == (C,)
    running[2] = Demand(C, 34, 33, 3, num_unshared=0)
    assert plan(running, [], free_blocks=0).preempted == (C, B)


def test_a_more_urgent_prompt_gets_the_budget_before_one_that_runs() -> None:
    running = [Demand(A, 20, 8, 2, priority=1)]
    waiting = [Demand(B, 3, 0, 0, priority=0), Demand(C, 3, 0, 0, priority=2)]
    step = plan(running, waiting, token_budget=8)
    assert step.slices == (Slice(B, 3, 1, True), Slice(A, 5, 0, False))


def test_one_that_waits_takes_the_seat_of_a_less_urgent_one() -> None:
    running = [Demand(A, 5, 4, 1, priority=0), Demand(B, 5, 4, 1, priority=2)]
    step = plan(running, [Demand(C, 3, 0, 0, priority=1)], max_running=2)
    assert step == Step((B,), (C,), (Slice(A, 1, 0, True), Slice(C, 3, 1, True)))
    assert plan(running, [Demand(C, 3, 0, 0, priority=2)], max_running=2).preempted == ()


def test_one_that_waits_takes_the_blocks_of_less_urgent_ones_but_only_if_that_is_enough() -> None:
    running = [
        Demand(A, 33, 32, 3, priority=0),
        Demand(B, 33, 32, 3, priority=1),
        Demand(C, 33, 32, 3, num_unshared=1, priority=1),
    ]
    urgent = Demand(SequenceId(4), 60, 0, 0, priority=0)
    assert plan(running, [urgent], free_blocks=0, max_running=9).preempted == ()
    step = plan(running, [urgent], free_blocks=2, max_running=9, token_budget=64)
    assert (step.preempted, step.admitted) == ((C, B), (SequenceId(4),))
    assert plan(running, [urgent], free_blocks=6, max_running=9).preempted == (C,)


def test_blocks_that_come_free_are_not_counted_again_for_one_that_finds_them() -> None:
    running = [Demand(A, 20, 19, 2), Demand(B, 66, 65, 5, num_unshared=5, priority=1)]
    # It finds four blocks of B and needs three more; B's leaving frees two beside those.
    urgent = Demand(C, 108, 64, 4, num_unshared=0)
    step = plan(running, [urgent], free_blocks=1, token_budget=128)
    assert (step.preempted, step.admitted) == ((B,), ())
    step = plan(running, [urgent], free_blocks=3, token_budget=128)
    assert (step.preempted, step.admitted) == ((B,), (C,))


def test_nobody_behind_one_who_finds_no_place_is_looked_at() -> None:
    seen = []

    def line() -> Iterator[Demand]:
        for number in range(10, 20):
            seen.append(number)
            yield Demand(SequenceId(number), 5, 0, 0)

    step = plan_step(
        [Demand(A, 5, 4, 1), Demand(B, 90, 16, 6, priority=1)],
        line(),
        free_blocks=100,
        token_budget=64,
        max_running=3,
    )
    assert step.admitted == (SequenceId(10),)
    assert [slice_.sequence_id for slice_ in step.slices] == [A, SequenceId(10), B]
    assert seen == [10, 11]


def test_nobody_makes_place_for_one_whose_prompt_is_being_computed_by_one_as_urgent() -> None:
    running = [
        Demand(A, 40, 16, 3, priority=0, next_block="x"),
        Demand(B, 5, 4, 1, priority=2),
    ]
    waiting = [Demand(C, 40, 16, 1, priority=0, next_block="x")]
    assert plan(running, waiting, max_running=2).preempted == ()


def test_no_more_than_the_most_run_together() -> None:
    waiting = [Demand(B, 1, 0, 0), Demand(C, 1, 0, 0)]
    assert plan([Demand(A, 2, 1, 1)], waiting, max_running=2).admitted == (B,)


def test_guesses_take_at_most_half_of_what_decoding_leaves() -> None:
    running = [Demand(A, 5, 4, 1, num_drafts=2), Demand(B, 5, 4, 1, num_drafts=4)]
    step = plan(running, [Demand(C, 9, 0, 0)])
    assert step.slices == (
        Slice(A, 1, 0, True, drafts=2),
        Slice(B, 1, 0, True, drafts=1),
        Slice(C, 3, 1, False),
    )


def test_guesses_are_checked_only_in_free_blocks() -> None:
    running = [Demand(A, 15, 14, 1, num_drafts=3), Demand(B, 16, 15, 1, num_drafts=2)]
    assert plan(running, [], free_blocks=0).slices == (
        Slice(A, 1, 0, True, drafts=1),
        Slice(B, 1, 0, True),
    )
    assert plan(running, [], free_blocks=1, token_budget=20).slices == (
        Slice(A, 1, 1, True, drafts=3),
        Slice(B, 1, 0, True),
    )


def test_nothing_to_do_is_an_empty_step() -> None:
    assert plan([], []) == Step((), (), ())


def test_more_running_sequences_than_the_budget_has_tokens_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 running sequences exceed the token budget 1"):
        plan([Demand(A, 2, 1, 1), Demand(B, 2, 1, 1)], [], token_budget=1)


def test_a_step_takes_its_share_of_the_decoding_the_most_urgent_first() -> None:
    running = [Demand(sequence_id, 5, 4, 1) for sequence_id in (A, B, C)]
    step = plan_step(
        running, [], free_blocks=9, token_budget=8, max_running=4, most_decoding=even_share(3, 2)
    )
    assert [slice_.sequence_id for slice_ in step.slices] == [A, B]
    assert [even_share(count, 3) for count in (0, 1, 3, 4, 7)] == [0, 1, 1, 2, 3]


def test_those_under_way_keep_their_seats_and_a_spare_block_each() -> None:
    waiting = [Demand(C, 3, 0, 0)]
    two = UnderWay(num_sequences=2)

    def admitted(free_blocks: int, max_running: int) -> tuple[SequenceId, ...]:
        return plan_step(
            [],
            waiting,
            free_blocks=free_blocks,
            token_budget=8,
            max_running=max_running,
            under_way=two,
        ).admitted

    assert (admitted(3, 3), admitted(3, 2), admitted(2, 3)) == ((C,), (), ())


def test_nobody_gives_way_when_even_that_would_not_let_the_first_go_on() -> None:
    running = [Demand(A, 17, 16, 1), Demand(B, 5, 4, 1, num_unshared=0)]
    alone = plan(running, [], free_blocks=0)
    assert (alone.preempted, len(alone.slices)) == ((B,), 1)
    beside = plan_step(
        running,
        [],
        free_blocks=0,
        token_budget=8,
        max_running=4,
        under_way=UnderWay(num_sequences=1),
    )
    assert beside == Step((), (), ())


def test_a_prompt_waits_for_the_block_that_a_step_under_way_computes() -> None:
    waiting = [Demand(A, 40, 0, 0, next_block="x"), Demand(B, 40, 0, 0, next_block="y")]
    step = plan_step(
        [],
        waiting,
        free_blocks=20,
        token_budget=8,
        max_running=4,
        under_way=UnderWay(1, frozenset({"x"})),
    )
    assert step.admitted == (B,)


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
