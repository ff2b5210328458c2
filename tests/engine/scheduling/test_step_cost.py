"""Step costs learned from made-up machines."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banyan.engine.scheduling.step_cost import StepCost, StepWork, work_of


def learned(machine: "Machine", *, num_steps: int = 200, noise: float = 0.0) -> StepCost:
    cost, chance = StepCost(), random.Random(3)
    for number in range(num_steps):
        work = work_of(chance.randrange(0, 2000), 1 << (number % 10))
        cost.observe(work, machine.seconds(work) * (1 + noise * (chance.random() - 0.5)))
    return cost


class Machine:
    """Reads its weights in `fixed` seconds, and computes beside that when `overlaps`."""

    def __init__(self, *, fixed: float, token: float, pair: float, overlaps: bool = False) -> None:
        self.fixed, self.token, self.pair, self.overlaps = fixed, token, pair, overlaps

    def seconds(self, work: StepWork) -> float:
        computed = work.num_tokens * self.token
        linear = max(self.fixed, computed) if self.overlaps else self.fixed + computed
        return linear + work.num_pairs * self.pair


def test_work_counts_tokens_and_what_each_looks_at() -> None:
    assert work_of(0, 3) == StepWork(3, 1 + 2 + 3)
    assert work_of(10, 2) == StepWork(2, 11 + 12)
    assert work_of(5, 1) + work_of(7, 1) == StepWork(2, 6 + 8)


def test_nothing_is_predicted_before_a_few_steps() -> None:
    cost = StepCost()
    assert cost.seconds(work_of(0, 5)) == cost.marginal_seconds(work_of(0, 5)) == 0.0
    most = cost.most_tokens(1.0, running=work_of(9, 1), context=0, least=16, most=512)
    assert most == 512


def test_a_straight_machine_is_learned_exactly() -> None:
    machine = Machine(fixed=0.01, token=2e-4, pair=1e-8)
    cost = learned(machine)
    for work in (work_of(100, 1), work_of(0, 300), work_of(1500, 700)):
        assert cost.seconds(work) == pytest.approx(machine.seconds(work), rel=0.01)
    assert cost.marginal_seconds(work_of(0, 500)) == pytest.approx(0.1 + 1e-8 * 125250, rel=0.02)


def test_a_machine_that_is_flat_for_few_tokens_is_learned_within_a_sixth() -> None:
    machine = Machine(fixed=0.02, token=2e-4, pair=1e-8, overlaps=True)
    cost = learned(machine, num_steps=400, noise=0.1)
    for num_tokens in (1, 4, 16, 64, 256, 512):
        work = work_of(300, num_tokens)
        assert cost.seconds(work) == pytest.approx(machine.seconds(work), rel=0.17)


def test_a_slower_machine_is_noticed() -> None:
    cost = learned(Machine(fixed=0.01, token=1e-4, pair=0))
    slow = Machine(fixed=0.02, token=2e-4, pair=0)
    for number in range(300):
        work = work_of(0, 1 << (number % 10))
        cost.observe(work, slow.seconds(work))
    assert cost.seconds(work_of(0, 200)) == pytest.approx(slow.seconds(work_of(0, 200)), rel=0.1)


def test_one_disturbed_step_changes_little() -> None:
    machine = Machine(fixed=0.01, token=1e-4, pair=0)
    cost = learned(machine)
    before = cost.seconds(work_of(0, 64))
    cost.observe(work_of(0, 64), 100.0)
    assert cost.seconds(work_of(0, 64)) < 1.6 * before


def test_the_budget_is_the_most_that_keeps_the_goal() -> None:
    machine = Machine(fixed=0.01, token=1e-4, pair=0)
    cost = learned(machine)
    running = StepWork(0, 0)
    for start in range(10):
        running += work_of(start, 1)
    most = cost.most_tokens(0.05, running=running, context=0, least=16, most=1024)
    assert most == pytest.approx(390, rel=0.05)
    assert cost.most_tokens(0.001, running=running, context=0, least=16, most=1024) == 16
    assert cost.most_tokens(9.0, running=running, context=0, least=16, most=1024) == 1024


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5000), st.integers(1, 2000), st.floats(1e-6, 10.0)),
        min_size=4,
        max_size=30,
    )
)
def test_predictions_are_never_negative_or_endless_whatever_was_seen(
    steps: list[tuple[int, int, float]],
) -> None:
    cost = StepCost()
    for start, num_tokens, seconds in steps:
        cost.observe(work_of(start, num_tokens), seconds)
    for num_tokens in (1, 10, 1000):
        assert 0 <= cost.seconds(work_of(50, num_tokens)) < 1e9
        assert 0 <= cost.marginal_seconds(work_of(50, num_tokens)) < 1e9
