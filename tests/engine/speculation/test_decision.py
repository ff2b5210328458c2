"""How many guesses are worth their time."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.speculation.decision import (
    Acceptance,
    CostMeter,
    Prospect,
    StepCost,
    choose_counts,
)

CHEAP = StepCost(step_seconds=1.0, token_seconds=0.05)
DEAR = StepCost(step_seconds=0.0, token_seconds=1.0)


def test_likely_guesses_are_checked_as_long_as_each_pays() -> None:
    assert choose_counts([Prospect(8, 0.9)], CHEAP) == [8]
    # The third would be right once in 27 times.
    assert choose_counts([Prospect(8, 0.3)], CHEAP) == [2]
    assert choose_counts([Prospect(8, 0.04)], CHEAP) == [0]
    assert choose_counts([Prospect(0, 0.9)], CHEAP) == [0]
    assert choose_counts([], CHEAP) == []


def test_nothing_pays_where_a_token_costs_what_a_step_costs() -> None:
    assert choose_counts([Prospect(8, 0.99)], DEAR) == [0]


def test_the_likeliest_guesses_of_a_batch_come_first() -> None:
    counts = choose_counts([Prospect(8, 0.95), Prospect(8, 0.1), Prospect(2, 0.8)], CHEAP)
    assert counts[0] > counts[2] >= 1
    assert counts[1] == 0


def speed(counts: tuple[int, ...], prospects: list[Prospect], cost: StepCost) -> float:
    expected = sum(
        sum(prospect.acceptance**i for i in range(count + 1))
        for prospect, count in zip(prospects, counts, strict=True)
    )
    return expected / cost.of(len(counts) + sum(counts))


@settings(max_examples=60)
@given(
    st.lists(st.builds(Prospect, st.integers(0, 4), st.floats(0, 1)), min_size=1, max_size=3),
    st.floats(0.001, 0.5),
)
def test_no_other_choice_gives_more_tokens_per_second(
    prospects: list[Prospect], token_seconds: float
) -> None:
    cost = StepCost(1.0, token_seconds)
    chosen = speed(tuple(choose_counts(prospects, cost)), prospects, cost)
    every = itertools.product(*(range(prospect.available + 1) for prospect in prospects))
    assert chosen >= max(speed(counts, prospects, cost) for counts in every) * (1 - 1e-9)


def test_the_meter_finds_the_line_through_the_steps() -> None:
    meter = CostMeter()
    for number in range(400):
        num_tokens = 1 + number % 9
        meter.observe(num_tokens, 0.010 + 0.002 * num_tokens)
    cost = meter.cost()
    assert cost.of(1) == pytest.approx(0.012, rel=0.05)
    assert cost.of(9) == pytest.approx(0.028, rel=0.05)


def test_a_few_disturbed_steps_do_not_mislead_the_meter() -> None:
    meter = CostMeter()
    for number in range(200):
        meter.observe(1 + number % 4, 5.0 if number == 150 else 0.010)
    assert meter.cost().of(2) < 0.02


def test_with_nothing_measured_a_likely_guess_is_tried() -> None:
    assert choose_counts([Prospect(4, 0.6)], CostMeter().cost())[0] > 0


def test_acceptance_follows_what_was_right() -> None:
    acceptance = Acceptance(0.6)
    assert acceptance.rate == pytest.approx(0.6)
    for _ in range(20):
        acceptance.note(4, 4)
    assert acceptance.rate > 0.95
    for _ in range(20):
        acceptance.note(4, 0)
    assert acceptance.rate < 0.15
