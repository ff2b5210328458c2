"""The costs that the comparison with the engine fits, and its large fleet."""

import numpy as np
import pytest

from banyan.planner.costs import Part, StepShape
from banyan.planner.plan_check import check_plan
from benchmarks.simulation import FittedCost, Measured
from benchmarks.simulation_scale import large_fleet
from tests.planner.shapes import FAST, dense_model

PART = Part(0, 4)


def _truth(step: StepShape) -> float:
    return 1e-3 + 2e-5 * step.num_tokens + 1e-5 * step.num_rows + 1e-8 * step.attended_pairs


def test_a_straight_line_is_found_again() -> None:
    chance = np.random.default_rng(0)
    steps = []
    for _ in range(200):
        tokens, context = int(chance.integers(1, 200)), int(chance.integers(1, 2000))
        rows = int(chance.integers(1, tokens + 1))
        shape = StepShape(tokens, rows, context, tokens * context)
        steps.append(Measured(shape, _truth(shape)))
    fitted = FittedCost(steps)
    for step in (StepShape(7, 7, 700, 700), StepShape(120, 3, 900, 60_000)):
        found = fitted.step_seconds(dense_model(), PART, FAST, step)
        assert found == pytest.approx(_truth(step), rel=0.02)


def test_the_large_fleet_is_a_plan_of_all_its_devices() -> None:
    model, inventory, plan = large_fleet(100)
    assert check_plan(plan, model, inventory) == ()
    names = {name for r in plan.replicas for s in r.stages for name in s.all_devices}
    assert len(names) == len(inventory.devices) == 100
    assert [len(replica.stages) for replica in plan.replicas].count(4) == 10
