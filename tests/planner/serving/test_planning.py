from dataclasses import replace

import pytest

from banyan.foundation.errors import InputError
from banyan.planner.costs import RooflineCost
from banyan.planner.inventory import Inventory, Link, PlannedDevice
from banyan.planner.model_shape import LayerShape, ModelShape
from banyan.planner.plan_check import check_plan
from banyan.planner.plan_file import parse_plan, print_plan
from banyan.planner.report import PlanningChoices, PlanReport
from banyan.planner.serving import plan_serving
from banyan.planner.workload import Goal, Workload
from tests.planner.shapes import FAST, SLOW, dense_model, two_hosts

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


def test_a_plan_lies_under_its_proven_bound() -> None:
    plan = planned(two_hosts()).plan
    assert plan is not None
    assert plan.prediction is not None
    assert plan.prediction.gap is not None
    assert 0 <= plan.prediction.gap < 0.5


def test_a_model_too_large_for_one_is_cut_and_fits() -> None:
    # Ten layers of 160 MB; a device has room for 920 MB.
    shape = big_model()
    report = plan_serving(shape, two_fast(), WORKLOAD, RooflineCost(), choices=PlanningChoices())
    assert report.plan is not None
    assert report.plan.prediction is not None
    assert check_plan(report.plan, shape, two_fast()) == ()
    limit = 1e9 * PlanningChoices().memory_share
    assert all(held <= limit for held in report.plan.prediction.memory_bytes.values())
    reasons = {each.name: each.reason for each in report.alternatives}
    assert "MiB short on a" in reasons["one fast alone"]


def test_where_nothing_fits_single_changes_are_named() -> None:
    report = plan_serving(
        big_model(), one_fast(), WORKLOAD, RooflineCost(), choices=PlanningChoices()
    )
    assert report.plan is None
    changes = [remedy.change for remedy in report.remedies]
    assert "one more fast" in changes
    assert "weights in int4" in changes
    assert "cannot be served so" in report.summary


def test_a_goal_that_nobody_meets_names_the_goal_that_would_be_met() -> None:
    hurried = replace(WORKLOAD, goal=Goal(time_per_output_token=1e-9))
    report = plan_serving(
        dense_model(), one_fast(), hurried, RooflineCost(), choices=PlanningChoices()
    )
    assert report.plan is None
    assert any("time per output token of" in remedy.change for remedy in report.remedies)


def big_model() -> ModelShape:
    layer = LayerShape(dense_weights=80_000_000, attention_width=256, cache_width=128)
    return replace(dense_model(), layers=(layer,) * 10)


def one_fast() -> Inventory:
    return replace(two_hosts(), devices=two_hosts().devices[:1], links={})


def two_fast() -> Inventory:
    return replace(two_hosts(), devices=two_hosts().devices[:2], links={})


def test_hosts_that_reach_each_other_only_by_way_of_another_still_get_a_plan() -> None:
    line = Inventory(
        devices=(
            PlannedDevice("a", FAST, "x"),
            PlannedDevice("b", FAST, "y"),
            PlannedDevice("c", replace(SLOW, kind="cpu"), "z"),
        ),
        within_host=Link(1e10),
        links={("x", "y"): Link(1e9, 1e-4), ("y", "z"): Link(1e9, 1e-4)},
    )
    report = planned(line)
    assert report.plan is not None
    assert check_plan(report.plan, dense_model(), line) == ()
