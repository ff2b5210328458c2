from pathlib import Path

import pytest

from banyan.devices.launch_plan import (
    LaunchPlan,
    Place,
    PlannedKernel,
    Step,
    evaluate_formula,
    read_plan,
)
from banyan.foundation.errors import CompilationFailed

PLAN = LaunchPlan(
    source="__kernel void k() {}",
    lanes=4,
    kernels=(PlannedKernel("k", "row_add", 0),),
    entries={
        "run_0": (
            Step(
                0, (Place(0), Place(2, 0, 1)), (0,), [[2, [0]], [1, [{"of": [[1, [0]]], "by": 3}]]]
            ),
            Step(None, (Place(None, 64), Place(1)), (), 128),
        )
    },
    constants=b"\x01\x02",
)


def test_a_plan_read_from_disk_is_the_plan_that_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(PLAN.as_text(), encoding="utf-8")
    assert read_plan(path) == PLAN


@pytest.mark.parametrize(("formula", "value"), [(7, 7), ([[2, [0]]], 10), ([[3, [0, 1]]], 30)])
def test_a_formula_is_a_sum_of_products(formula: object, value: int) -> None:
    assert evaluate_formula(formula, [5, 2]) == value


def test_a_quotient_is_rounded_down() -> None:
    (step, _) = PLAN.entries["run_0"]
    assert evaluate_formula(step.amount, [5]) == 10 + 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 0}', '{"format": 1}'])
def test_a_damaged_plan_says_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CompilationFailed, match="delete it from the cache"):
        read_plan(path)
