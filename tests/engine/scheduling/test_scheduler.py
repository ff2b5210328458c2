"""The scheduler against tables of small cases."""

from collections.abc import Iterator

import pytest

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
