from dataclasses import replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import Inventory
from banyan.planner.plan_check import check_plan
from banyan.planner.plan_file import parse_plan, print_plan
from banyan.planner.report import PlanningChoices, PlanReport
from banyan.planner.serving import plan_serving
from banyan.planner.workload import Workload
from tests.planner.shapes import dense_model, two_hosts

WORKLOAD = Workload(prompt_tokens=200, answer_tokens=100)


def planned(inventory: Inventory, workload: Workload = WORKLOAD) -> PlanReport:
    return plan_serving(
        dense_model(), inventory, workload, RooflineCost(), choices=PlanningChoices()
    )


def test_a_small_model_gets_a_copy_on_each_device() -> None:
    report = planned(two_hosts())
    assert report.plan is not None
    assert len(report.plan.replicas) == 3
    assert check_plan(report.plan, dense_model(), two_hosts()) == ()
    assert parse_plan(print_plan(report.plan)) == report.plan


def test_every_natural_alternative_has_a_reason_with_numbers() -> None:
    alternatives = {each.name: each.reason for each in planned(two_hosts()).alternatives}
    assert "one slow alone" in alternatives
    assert "even split over all devices" in alternatives
    assert all(any(c.isdigit() for c in reason) for reason in alternatives.values())


def test_an_inventory_without_devices_is_refused() -> None:
    with pytest.raises(InputError, match="no devices"):
        planned(replace(two_hosts(), devices=()))


def test_a_workload_without_tokens_is_refused() -> None:
    with pytest.raises(InputError, match="answer of the workload has 0 tokens"):
        planned(two_hosts(), Workload(prompt_tokens=1, answer_tokens=0))
